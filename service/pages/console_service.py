"""The service in the console: the log of what admins did, and the settings without secrets."""

import re
from datetime import timedelta
from typing import Any

import orjson
from flask import current_app

from service.http.arguments import parameters
from service.http.openapi import operation, own_version
from service.http.web import Answer
from service.identity.admin_log import LOG_PAGE, logged_actions
from service.pages.account import ABOUT
from service.pages.console_visit import Visitor, for_admins

TOLD_SETTINGS = frozenset(
    {
        *("APP_LINK", "APP_NAME", "CORS_ORIGINS", "DOOR_HOST", "ENVIRONMENT", "FILES_SIZES", "JWT_ALGORITHM"),
        *("JWT_AUTH_HEADER_PREFIX", "JWT_AUTH_URL_RULE", "LOG_LEVEL", "PROVIDER_REDIRECTS", "PUBLIC_URL", "VAR"),
        *("WEBAUTHN_ORIGINS", "WEBAUTHN_RP_ID", "WEBHOOK_ALLOW"),
    }
)
"""The settings whose text is told. Of any other, also one that will come, only whether it is set."""
RATE_TEXT = re.compile(r"\d+ per (\d+ )?[a-z]+")


@operation("Read what admins did", parameters=frozenset({"after", "admin"}), **ABOUT)
@for_admins
def log_page(visitor: Visitor) -> Answer:
    """Show a page of the log, the newest first."""
    args = parameters()
    admin = args.get("admin", "").strip()
    rows = logged_actions(args.get("after", ""), admin)
    last = rows[-1]["_id"] if len(rows) == LOG_PAGE else ""
    return visitor.shown("console/log.html", actions=rows, admin_named=admin, last=last)


@operation("Look at the settings", **ABOUT)
@for_admins
def settings_page(visitor: Visitor) -> Answer:
    """Show the settings without secrets."""
    visitor.log.note("read", "settings")
    names = sorted(current_app.extensions["madang.settings"])
    told = [(name, setting_text(name, current_app.config[name])) for name in names]
    return visitor.shown("console/settings.html", settings=told, version=own_version())


def setting_text(name: str, value: Any) -> str | None:
    """Return what is told of a setting, None where its text may be a secret; empty where it is not set."""
    if value is None or value in ("", [], {}):
        return ""
    if isinstance(value, bool | int | float | timedelta):
        return str(value)
    if name in TOLD_SETTINGS or (isinstance(value, str) and RATE_TEXT.fullmatch(value)):
        return value if isinstance(value, str) else orjson.dumps(value).decode()
    return None


SERVICE_ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/admin/log", log_page),
    ("GET", "/admin/settings", settings_page),
]
