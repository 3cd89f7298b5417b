"""The routes of the streams: which handler answers a method and a path."""

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from service.core.errors import MethodNotAllowed, NotFound
from service.streams.exchange import Request, Response

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path, in which `<name>` stands for a piece without a slash, and who answers."""

    method: str
    path: str
    handler: Handler

    def pattern(self) -> re.Pattern[str]:
        """Return what matches the path."""
        parts = re.split(r"<(\w+)>", self.path)
        return re.compile(
            "".join(f"(?P<{part}>[^/]+)" if number % 2 else re.escape(part) for number, part in enumerate(parts))
        )


class Router:
    """Finds who answers a request."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = [(route, route.pattern()) for route in routes]

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]]:
        """Return who answers, and what the names in the path stand for; HEAD is answered as GET.

        Raises `NotFound` or `MethodNotAllowed`.
        """
        wanted = "GET" if method == "HEAD" else method
        allowed = set()
        for route, pattern in self.routes:
            found = pattern.fullmatch(path)
            if found and route.method == wanted:
                return route.handler, found.groupdict()
            if found:
                allowed.add(route.method)
        if allowed:
            raise MethodNotAllowed("not with this method", headers={"Allow": ", ".join(sorted(allowed))})
        raise NotFound("there is nothing at this path")
