"""Pages of other origins (CORS, the Fetch standard): the streams say to them what Flask-CORS says for the API."""

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from service.core.metrics import METHODS
from service.core.origins import EXPOSED_HEADERS, PREFLIGHT_SECONDS, whole_origins
from service.streams.exchange import Request

PATHS = ("/v1/", "/socket.io")


class CrossOrigin:
    """Lets the pages of some origins read answers of paths that apps have."""

    def __init__(self, origins: str | list[str]) -> None:
        """Take `CORS_ORIGINS`. Raises `ValueError` for one that is no whole origin."""
        self.origins = [origin.lower() for origin in whole_origins(origins)]
        self.is_for_everyone = "*" in self.origins

    def allows(self, origin: str) -> bool:
        """Tell whether pages of an origin may come."""
        return self.is_for_everyone or origin.lower() in self.origins

    def allows_socket(self, request: Request) -> bool:
        """Tell whether a WebSocket may be opened: browsers ask nobody before that, and tell where their page is from.

        A page of this host may, and what is no browser: it names no origin, or this host, as React Native does.
        """
        origin = request.headers.get("origin", "")
        return not origin or urlsplit(origin).netloc == request.headers.get("host") or self.allows(origin)

    def headers(self, request: Request) -> Iterator[tuple[str, str]]:
        """Yield the headers that tell a browser what the page that asks may do."""
        origin = request.headers.get("origin", "")
        if not origin or not request.path.startswith(PATHS) or not self.allows(origin):
            return
        yield "Access-Control-Allow-Origin", "*" if self.is_for_everyone else origin
        yield "Access-Control-Expose-Headers", ", ".join(sorted(EXPOSED_HEADERS))
        if request.method == "OPTIONS":
            yield from preflight(request.headers)
        if not self.is_for_everyone and len(self.origins) > 1:
            yield "Vary", "Origin"


def preflight(sent: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield what a browser is told that asks before it sends a request."""
    if sent.get("access-control-request-method", "").upper() not in METHODS:
        return
    wanted = sorted(name.strip() for name in sent.get("access-control-request-headers", "").split(","))
    if any(wanted):
        yield "Access-Control-Allow-Headers", ", ".join(wanted)
    yield "Access-Control-Max-Age", str(PREFLIGHT_SECONDS)
    yield "Access-Control-Allow-Methods", ", ".join(sorted(METHODS))
