"""Usage in the API: what each app counts for its accounts."""

from flask import Flask

from service.context import current_service
from service.identity.usage import AccountUsage, usage_by


def init_app(app: Flask) -> None:
    """Count what `app` does for its accounts."""
    app.extensions["madang.usage"] = usage_by(app.config)


def account_usage() -> AccountUsage:
    """Return how long the lists, exports and pulls of accounts have taken in this process."""
    found: AccountUsage = current_service().extensions["madang.usage"]
    return found
