"""Flask as an API uses it: one short way through, JSON by orjson, no cookie sessions, and answers sent as they are."""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson
from flask import Flask, Request, Response
from flask.globals import _cv_request
from flask.json.provider import JSONProvider
from flask.sessions import SessionInterface
from flask.signals import request_finished, request_started
from werkzeug.datastructures import Headers
from werkzeug.routing import MapAdapter

from service.context import OUTSIDE, current_service
from service.core.errors import BadRequest
from service.core.json_text import encode
from service.core.query_string import Parameters, query_parameters
from service.http.refusal import refuse
from service.mongo import deadline

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from service.records.acting import ReadOfOthers

BODY = "madang.body"
"""Where admission puts the body of a request when it has read it."""
EMPTY_STATUS = frozenset({204, 304})


class Service(Flask):
    """Flask without what only a site of pages needs, and with nothing looked up twice.

    A request takes the steps of Flask in the order of Flask. There are no coroutine views and no host or subdomain
    rules, and where no blueprint has functions of its own around its requests, none are looked for: a third of what
    Flask takes for a request.
    """

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer a request, if its method is what the router will take it for.

        To Werkzeug `get` is GET. Whatever else looks at the method, around the app and in it, sees what was sent.
        """
        method = environ["REQUEST_METHOD"]
        if method != method.upper():
            return refuse(BadRequest("a method is written in capitals"), environ, start_response)
        return super().__call__(environ, start_response)

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return `func` as it is: there are no coroutines here, and to look costs 2 µs, seven times a request."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what finds the route of a request: by its path and method, whatever host it names."""
        if request is None:
            return None
        environ = request.environ
        return MapAdapter(
            self.url_map,
            server_name=environ.get("HTTP_HOST", ""),
            script_name="/",
            subdomain="",
            url_scheme=environ["wsgi.url_scheme"],
            path_info=environ.get("PATH_INFO", "").encode("latin-1").decode(errors="replace"),
            default_method=environ["REQUEST_METHOD"],
            query_args=environ.get("QUERY_STRING", ""),
        )

    def full_dispatch_request(self) -> Response:
        """Answer the request at hand, also where that is with an error.

        All that it asks of MongoDB has one deadline; a request in a batch has that of the batch.
        """
        self._got_first_request = True
        with deadline.lasting(self.config["MONGODB_TIMEOUT"]):
            try:
                if request_started.receivers:
                    request_started.send(self)
                value = self.preprocess_request()
                if value is None:
                    value = self.dispatch_request()
            except Exception as error:
                value = self.handle_user_exception(error)
            return self.finalize_request(value)

    def preprocess_request(self) -> Any:
        """Do what comes before every request; return an answer if there is one already."""
        if len(self.before_request_funcs) > 1 or self.url_value_preprocessors:
            return super().preprocess_request()
        for function in self.before_request_funcs.get(None, ()):
            if (value := function()) is not None:
                return value
        return None

    def dispatch_request(self) -> Any:
        """Call the view of the request at hand."""
        request = _cv_request.get().request
        rule = request.url_rule
        if rule is None or request.method == "OPTIONS":
            return super().dispatch_request()
        return self.view_functions[rule.endpoint](**request.view_args)  # type: ignore[arg-type]

    def finalize_request(self, value: Any, from_error_handler: bool = False) -> Response:
        """Return the answer that a view or an error handler gave, after what comes after every request."""
        if from_error_handler or not isinstance(value, Answer):
            return super().finalize_request(value, from_error_handler)
        response = self.process_response(value)
        if request_finished.receivers:
            request_finished.send(self, response=response)
        return response

    def process_response(self, response: Response) -> Response:
        """Do what comes after every request."""
        if len(self.after_request_funcs) > 1 or _cv_request.get()._after_request_functions:
            return super().process_response(response)
        for function in reversed(self.after_request_funcs.get(None, ())):
            response = function(response)
        return response

    def do_teardown_request(self, exc: BaseException | None = None) -> None:
        """Do what comes at the end of every request, whatever became of it."""
        if len(self.teardown_request_funcs) > 1:
            super().do_teardown_request(exc)
        else:
            for function in reversed(self.teardown_request_funcs.get(None, ())):
                function(exc)


class ApiRequest(Request):
    """A request whose query string is read once, and not into a `MultiDict`, which takes longer than all the rest."""

    is_counted = False
    """Whether it is one of those in flight."""

    @property
    def body(self) -> bytes:
        """Return the body, which admission has read in most cases: Werkzeug would wrap it in two more streams."""
        read: bytes | None = self.environ.get(BODY)
        return self.get_data() if read is None else read

    @property
    def has_body(self) -> bool:
        """Tell whether there is a body, which one of two headers has to say (RFC 9112, section 6.3)."""
        environ = self.environ
        named = environ.get("CONTENT_LENGTH", "0") != "0" or "HTTP_TRANSFER_ENCODING" in environ
        return named and bool(self.body)

    @cached_property
    def parameters(self) -> Parameters:
        """Return name and value of each parameter of the query string, in order."""
        return query_parameters(self.query_string)


def current_request() -> ApiRequest:
    """Return the request itself. Raises `RuntimeError` outside of one."""
    try:
        return _cv_request.get().request  # type: ignore[return-value]
    except LookupError:
        raise RuntimeError(OUTSIDE) from None


class Answer(Response):
    """An answer whose body is in memory goes to the server as one list, without an iterator around it.

    `standing` are headers that the service itself wrote down, so that nobody has to check them again. `keepable` tells
    whether a retry with the same idempotency key gets this answer again: see `Problem`; what was done in a transaction
    has to be kept with it. `kept_body` is what is kept of its body, where that is not all. `noted` is what it may hold
    of others: a retry gets it as long as that may be read. `is_admitted_anew` tells that a retry has to be let in as
    the request was, or may read what was read for it, so that no batch keeps it.
    """

    standing: tuple[tuple[str, str], ...] = ()
    keepable = True
    kept_body: bytes | None = None
    noted: "ReadOfOthers | None" = None
    is_admitted_anew = False

    has_close_functions = False

    @classmethod
    def of(cls, body: bytes, status: int, headers: Iterable[tuple[str, str]]) -> "Answer":
        """Return an answer of `body`. Raises `ValueError` for a header with a line break, which would be its end."""
        # One by one: Werkzeug asks a list of pairs first whether it is a mapping of some kind, for 1.5 µs. And the body
        # in a list: of bytes alone Werkzeug tells the length, which the server does anyhow.
        made = Headers()
        for name, value in headers:
            made.add(name, value)
        return cls([body], status, made)

    @property
    def names(self) -> set[str]:
        """Return the names of its headers, without the standing ones."""
        return {name for name, _ in self.headers}

    def call_on_close(self, func: Callable[[], Any]) -> Callable[[], Any]:
        """Call a function when the answer has been sent; that it is, Werkzeug sees to."""
        self.has_close_functions = True
        return super().call_on_close(func)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Send the answer: what Werkzeug does, and less where there is nothing left to find out."""
        body = self.response
        whole = type(body) is list and len(body) == 1 and not self.direct_passthrough and not self.has_close_functions
        if not whole or self.status_code in EMPTY_STATUS or environ["REQUEST_METHOD"] == "HEAD":
            return super().__call__(environ, start_response)
        start_response(self.status, [*self.headers, *self.standing])
        return body  # type: ignore[return-value]

    def get_wsgi_headers(self, environ: "WSGIEnvironment") -> Headers:
        """Return the headers that are sent, the standing ones among them."""
        headers = super().get_wsgi_headers(environ)
        headers.extend(self.standing)
        return headers


JSON = "Content-Type", "application/json"
PROBLEM_JSON = "Content-Type", "application/problem+json"


def json_answer(
    value: Any, status: int = 200, headers: Iterable[tuple[str, str]] = (), media_type: tuple[str, str] = JSON
) -> Answer:
    """Return `value` as a JSON answer."""
    provider: Any = current_service().json
    return Answer.of(provider.encode(value), status, [*headers, media_type])


def not_kept(answer: Answer) -> Answer:
    """Return an answer that no retry gets again: it holds a secret, is good once, or is made anew without harm."""
    answer.keepable = False
    return answer


def empty_answer(status: int, headers: Iterable[tuple[str, str]] = ()) -> Answer:
    """Return an answer without a body."""
    made = Answer(status=status, headers=[*headers])
    del made.headers["Content-Type"]
    return made


class JsonProvider(JSONProvider):
    """Flask's JSON by orjson. A resource's dict goes straight to bytes."""

    def __init__(self, app: Flask) -> None:
        """Write for people where the settings of `app` say so."""
        super().__init__(app)
        self.option = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE if app.config["JSON_PRETTY"] else 0

    def encode(self, value: Any) -> bytes:
        """Return JSON in UTF-8."""
        return encode(value, self.option)

    def dumps(self, obj: Any, **_kwargs: Any) -> str:
        """Return JSON text."""
        return self.encode(obj).decode()

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
