"""The routes of the streams: which handler answers a method and a path, and what it takes."""

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass

from service.core.errors import MethodNotAllowed, NotFound
from service.streams.exchange import Request, Response

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path, in which `<name>` stands for a piece without a slash, and who answers.

    `parameters` are those of the query string that it takes, None for any. `named` is what it is called in the metrics
    and the log, where that is not the path; `has_body` tells whether it reads one.
    """

    method: str
    path: str
    handler: Handler
    parameters: frozenset[str] | None = frozenset()
    named: str = ""
    has_body: bool = False

    @property
    def name(self) -> str:
        """What it is called in the metrics and the log."""
        return self.named or self.path

    def pattern(self) -> re.Pattern[str]:
        """Return what matches the path; a slash at the end is none, as in the API."""
        parts = re.split(r"<(\w+)>", self.path)
        pieces = [f"(?P<{part}>[^/]+)" if number % 2 else re.escape(part) for number, part in enumerate(parts)]
        return re.compile("".join(pieces) + "/?")


class Router:
    """Finds who answers a request."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = [(route, route.pattern()) for route in routes]

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """Return who answers, and what the names in the path stand for; HEAD is answered as GET.

        Raises `NotFound` or `MethodNotAllowed`.
        """
        wanted = "GET" if method == "HEAD" else method
        found = list(self.at(path))
        for route, arguments in found:
            if route.method == wanted:
                return route, arguments
        if found:
            raise MethodNotAllowed("not with this method", headers={"Allow": self.allowed(path)})
        raise NotFound("there is nothing at this path")

    def has(self, method: str, path: str) -> bool:
        """Tell whether somebody answers a method at a path by itself."""
        return any(route.method == method for route, _ in self.at(path))

    def at(self, path: str) -> Iterator[tuple[Route, dict[str, str]]]:
        """Yield the routes of a path, with what the names in it stand for."""
        for route, pattern in self.routes:
            if found := pattern.fullmatch(path):
                yield route, found.groupdict()

    def allowed(self, path: str) -> str:
        """Return the methods that a path has; empty where there is nothing."""
        methods = {route.method for route, _ in self.at(path)}
        return ", ".join(sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set()))) if methods else ""
