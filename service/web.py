"""Flask as an API uses it: JSON by orjson, no cookie sessions, and answers that go out as they are."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import orjson
from flask import Flask, Request, Response
from flask.json.provider import JSONProvider
from flask.sessions import SessionInterface
from werkzeug.datastructures import Headers

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

EMPTY_STATUS = frozenset({204, 304})


class Answer(Response):
    """An answer whose body is in memory goes to the server as one list, without an iterator around it.

    `standing` are headers that the service itself wrote down, so that nobody has to check them again.
    """

    standing: tuple[tuple[str, str], ...] = ()

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Send the answer: what Werkzeug does, and less where there is nothing left to find out."""
        body = self.response
        plain = type(body) is list and len(body) == 1 and not self.direct_passthrough and not self._on_close
        if not plain or self.status_code in EMPTY_STATUS or environ["REQUEST_METHOD"] == "HEAD":
            return super().__call__(environ, start_response)
        start_response(self.status, [*self.headers, *self.standing])
        return body  # type: ignore[return-value]

    def get_wsgi_headers(self, environ: "WSGIEnvironment") -> Headers:
        """Return the headers that are sent, the standing ones among them."""
        headers = super().get_wsgi_headers(environ)
        headers.extend(self.standing)
        return headers


def json_answer(value: Any, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> Answer:
    """Return `value` as a JSON answer."""
    return Answer(orjson.dumps(value), status, [*headers, ("Content-Type", "application/json")])


class Json(JSONProvider):
    """Flask's JSON by orjson. A resource's dict goes straight to bytes."""

    def dumps(self, obj: Any, **_kwargs: Any) -> str:
        """Return JSON text."""
        return orjson.dumps(obj).decode()

    def loads(self, s: str | bytes, **_kwargs: Any) -> Any:
        """Return the value of JSON text."""
        return orjson.loads(s)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """Return a JSON answer."""
        return json_answer(self._prepare_response_obj(args, kwargs))


class NoSessions(SessionInterface):
    """Flask's cookie sessions, which an API has no use for: none is opened, none is saved."""

    def open_session(self, app: Flask, request: Request) -> None:
        """Open none."""
