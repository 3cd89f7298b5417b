"""What every resource is: Flask-RESTful's, with JSON as its one representation."""

from datetime import timedelta
from typing import Any

import flask_restful

from service.context import current_service
from service.core.metrics import METHODS
from service.http.web import current_request

VERBS = {method: "get" if method == "HEAD" else method.lower() for method in METHODS}
"""The name of the Python method that answers each HTTP method."""


class Resource(flask_restful.Resource):
    """A resource whose methods return a dict or a list, alone or with a status and headers, or None for no body."""

    def dispatch_request(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method that the request names.

        Flask-RESTful would look for the representation that `Accept` prefers; there is one, and looking costs 15 µs.
        """
        return getattr(self, VERBS[current_request().method])(*args, **kwargs)


def tombstones_kept() -> timedelta:
    """Return how long ends are remembered."""
    return timedelta(days=current_service().config["TOMBSTONE_DAYS"])
