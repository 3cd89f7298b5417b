"""Many requests in one: each as if it had been sent alone, or all of them or none."""

import time
from io import BytesIO
from typing import Any, Literal, NamedTuple, Self, cast
from urllib.parse import unquote, unquote_to_bytes

import orjson
from flask import current_app, request
from pydantic import Field, field_validator, model_validator

from service.context import g
from service.core.errors import (
    DatabaseUnavailable,
    FailedDependency,
    NotFound,
    Overloaded,
    Problem,
    TooExpensive,
    TooLarge,
)
from service.core.json_text import encode
from service.http.arguments import Arguments, json_object, take_decoded
from service.http.beforehand import BEFOREHAND, beforehand, in_transaction, made_by
from service.http.idempotency import ATOMIC, DERIVED_KEY, WRITE_METHODS, Undone
from service.http.openapi import operation, operation_of
from service.http.web import Answer, json_answer
from service.model.values import wrong
from service.mongo import deadline, transactions
from service.resources.resource import Resource

MOST = 50
MOST_BYTES = 8 * 1024 * 1024
"""Most that the answers come to; what follows is not tried.

50 long lists would fit neither into the memory of a worker nor, kept for a retry, into a document of MongoDB.
"""
MOST_KEPT_TWICE = 256 * 1024
"""Most bytes of the answers of a plain batch that are kept as a whole, beside those of its writes."""
ATOMIC_SHARE = 0.6
"""What of the time of a request an atomic batch may take for its transaction."""
MOST_BEFOREHAND = 15.0
"""Most seconds for what is done before that transaction: fifty passwords are hashed in less, if few others are."""
LEAST_LEFT = 0.05
"""Time that a request needs to be begun; the batch has as much in all as one request alone."""
ALONE = ("/v1/batch", "/v1/accounts/me/export")
"""Paths that stand for themselves: no batch in a batch, and an export is streamed."""
ALL_ALONE = "/v1/sync/"
"""Beginning of others that do: what a library syncs is streamed, or a transaction of its own."""
ENDS_ACCOUNT = ("DELETE", "/v1/accounts/me")
NEW_PASSWORD = ("PUT", "/v1/accounts/me/password")
FUNCTIONS = "/v1/functions/"
"""Where functions of a team are called, which tell no records."""
PATH = r"^/v1/(?!(batch|accounts/me/export)/*(\?|$)|sync/)[\x01-\x7f]*$"
"""What the document says of a path; a percent sign does not change what is refused."""
PART_HEADERS = ("If-Match", "If-None-Match", "Idempotency-Key", "X-Request-ID")
"""Headers that a request in a batch may have; who sends it is who sends the batch."""
HEADERS_WANTED = f"headers of printable ASCII out of {', '.join(PART_HEADERS)}"
PART_HEADERS_SCHEMA: dict[str, Any] = {
    "propertyNames": {"enum": [*PART_HEADERS]},
    "additionalProperties": {"type": "string", "pattern": "^[ -~]*$"},
}
ANSWER_HEADERS = (
    *("Content-Type", "ETag", "Location", "Link", "Allow", "Retry-After", "WWW-Authenticate"),
    "Idempotent-Replayed",
)
KEPT_ENVIRONMENT = frozenset(
    {"HTTP_AUTHORIZATION", "HTTP_HOST", "REMOTE_ADDR", "SCRIPT_NAME", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL"}
)


def routed(path: str) -> str:
    """Return what a path is routed by: without its query string, decoded, without a slash at its end."""
    return unquote(path.partition("?")[0]).rstrip("/")


class BatchRequest(Arguments):
    """One request of a batch."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str = Field(
        max_length=8000, description="under /v1, with its query string", json_schema_extra={"pattern": PATH}
    )
    body: Any = Field(default=None, validate_default=True)
    """As JSON text, empty for none: what was decoded of a whole batch is not kept while its requests are answered."""
    headers: dict[str, str] = Field(default_factory=dict, json_schema_extra=PART_HEADERS_SCHEMA)

    @field_validator("path")
    @classmethod
    def is_in_api(cls, path: str) -> str:
        """Refuse a path that leads elsewhere, or to a batch in a batch."""
        alone = routed(path) in ALONE or unquote(path).startswith(ALL_ALONE)
        if not unquote(path).startswith("/v1/") or alone or not path.isascii():
            raise wrong("not_allowed", f"a path under /v1 in ASCII, but not {', '.join(ALONE)} or under {ALL_ALONE}")
        return path

    @field_validator("body")
    @classmethod
    def as_text(cls, body: Any) -> bytes:
        """Write the body down as that of a request of its own."""
        return b"" if body is None else encode(body)

    @field_validator("headers", mode="before")
    @classmethod
    def are_few(cls, headers: Any) -> Any:
        """Refuse more headers than there are before each is looked at."""
        if isinstance(headers, dict) and len(headers) > 2 * len(PART_HEADERS):
            raise wrong("not_allowed", HEADERS_WANTED)
        return headers

    @field_validator("headers")
    @classmethod
    def are_known(cls, headers: dict[str, str]) -> dict[str, str]:
        """Refuse a header that would not have the effect that it has in a request of its own."""
        known = {name.lower(): name for name in PART_HEADERS}
        printable = all(value.isascii() and value.isprintable() for value in headers.values())
        if not printable or not {name.lower() for name in headers} <= set(known):
            raise wrong("not_allowed", HEADERS_WANTED)
        named = {known[name.lower()]: value for name, value in headers.items()}
        if len(named) < len(headers):
            raise wrong("not_allowed", "each header once, whatever the case of its name")
        return named


class BatchArguments(Arguments):
    """Requests to answer in order."""

    requests: list[BatchRequest] = Field(max_length=MOST)
    atomic: bool = Field(default=False, description="all or none, in one transaction")
    on_error: Literal["continue", "stop"] = Field(
        default="continue",
        description="whether those after one that failed are tried; the rest of an atomic batch never is",
    )

    @model_validator(mode="after")
    def have_one_key(self) -> Self:
        """Refuse a key inside of what is done or undone as a whole."""
        if self.atomic and any("Idempotency-Key" in part.headers for part in self.requests):
            raise wrong("not_allowed", "the idempotency key of an atomic batch stands on the batch itself")
        return self

    @model_validator(mode="after")
    def can_be_undone(self) -> Self:
        """Refuse what is more than one transaction holds, and what the log says of it would stay said."""
        if self.atomic and any((part.method, routed(part.path)) == ENDS_ACCOUNT for part in self.requests):
            raise wrong("not_allowed", "an account is deleted by a request of its own, not in an atomic batch")
        if self.atomic and sum((part.method, routed(part.path)) == NEW_PASSWORD for part in self.requests) > 1:
            raise wrong("not_allowed", "the password is changed once in an atomic batch")
        return self


class BatchResponse(Arguments):
    """The answer to one request of a batch."""

    status: int
    headers: dict[str, str]
    body: Any


class BatchAnswer(Arguments):
    """The answers, in the order of the requests."""

    responses: list[BatchResponse]


class Outcome(NamedTuple):
    """What became of one request of a batch: its response, the bytes of its body, and whether a retry gets the same.

    `reading` are the seconds that it took, if it was one that reads.
    """

    response: dict[str, Any]
    size: int = 0
    keepable: bool = True
    reading: float = 0.0

    @property
    def is_too_expensive(self) -> bool:
        """Tell whether it took MongoDB too long."""
        body = self.response["body"]
        return isinstance(body, dict) and body.get("code") == TooExpensive.code


def is_atomic() -> bool:
    """Tell whether the batch at hand is one transaction."""
    return json_object().get("atomic") is True


class Batch(Resource):
    """Where many requests are sent at once."""

    @operation(
        "Send several requests at once",
        name="sendBatch",
        example={"requests": [{"method": "GET", "path": "/v1/accounts/me"}]},
        body=BatchArguments,
        answer={200: BatchAnswer},
        problems=["not_supported", "too_expensive"],
        bounded=is_atomic,
        beforehand=lambda: prepared_batch(),
        replayed=lambda kept: replayed_batch(kept),
    )
    def post(self) -> Answer:
        """Answer each request in order; with `atomic`, the first failure undoes all."""
        sent, made = beforehand(prepared_batch)
        if not sent.atomic:
            outcomes = one_by_one(sent.requests, sent.on_error == "stop")
            told = together(sent.requests, outcomes)
            # The answers to its writes are kept already: of a long one a second time would be too much.
            told.keepable = told.keepable and size_of(outcomes) <= MOST_KEPT_TWICE
            return told
        try:
            return in_transaction(lambda: all_or_none(sent.requests, made))
        except Undone as undone:
            if transactions.is_active():
                # The transaction is that of the batch's own idempotency key: it has to be undone as a whole.
                raise
            return undone.response


def prepared_batch() -> tuple[BatchArguments, list[Any]]:
    """Return the batch at hand, and what has to be made for its requests before the transaction if it is one.

    Raises `Overloaded` where that takes too long.
    """
    sent = take_decoded(BatchArguments)
    made: list[Any] = []
    end = time.monotonic() + MOST_BEFOREHAND
    for index, part in enumerate(sent.requests if sent.atomic else ()):
        if time.monotonic() > end:
            raise Overloaded
        # Most of it is no work of MongoDB's, whose time a deadline counts.
        made.append(deadline.apart(prepared_part, part, index))
    return sent, made


def prepared_part(part: BatchRequest, index: int) -> Any:
    """Return what has to be made for one request of an atomic batch before its transaction; None for nothing."""
    request_id, started = g.request_id, g.started
    try:
        with current_app.request_context(environment(part, index, request_id)):
            rule = request.url_rule
            asked = None if rule is None else operation_of(current_app, rule.endpoint, part.method)
            if asked is None or asked.beforehand is None:
                return None
            current_app.preprocess_request()
            return made_by(asked.beforehand)
    except Problem:
        return None  # nobody is let in: the request itself will say so
    finally:
        g.request_id, g.started = request_id, started


def one_by_one(requests: list[BatchRequest], stops_on_error: bool) -> list[Outcome]:
    """Return what becomes of requests that stand alone, or, where it stops on an error, each on those before it.

    In a batch with an idempotency key nothing is tried after a request that has to wait: when the batch is sent again,
    what follows may need what it did. And nothing is tried after one that has taken the time of all.
    """
    outcomes: list[Outcome] = []
    for index, part in enumerate(requests):
        if stops_on_error and outcomes and outcomes[-1].response["status"] >= 400:
            failed = FailedDependency(f"request {index - 1} of the batch failed, so those after it were not tried")
            outcomes += [not_tried(failed)] * (len(requests) - index)
            break
        stops = has_key() or deadline.left() < LEAST_LEFT
        waits = bool(outcomes) and "Retry-After" in outcomes[-1].response["headers"] and stops
        outcomes.append(outcomes[-1]._replace(size=0) if waits else answer(part, outcomes))
    return outcomes


def size_of(outcomes: list[Outcome]) -> int:
    """Return the bytes of some answers."""
    return sum(outcome.size for outcome in outcomes)


def has_key() -> bool:
    """Tell whether the batch at hand has an idempotency key."""
    return "Idempotency-Key" in request.headers


def together(requests: list[BatchRequest], outcomes: list[Outcome]) -> Answer:
    """Return the answer to the batch; it is one about the moment when one of its parts is."""
    responses = [outcome.response for outcome in outcomes]
    made = json_answer({"responses": responses})
    made.keepable = all(outcome.keepable for outcome in outcomes)
    if has_key():
        made.kept_body = orjson.dumps({"responses": [*map(kept_part, requests, outcomes)]})
    waits = [int(part["headers"]["Retry-After"]) for part in responses if "Retry-After" in part["headers"]]
    if waits:
        made.headers["Retry-After"] = str(max(waits))
    return made


def all_or_none(requests: list[BatchRequest], made: list[Any]) -> Answer:
    """Return the answers to requests of one transaction; raises `Undone` with the answers when one fails.

    What it has written others wait for, so it has less time than they have.
    """
    done: list[Outcome] = []
    with deadline.lasting(current_app.config["MONGODB_TIMEOUT"] * ATOMIC_SHARE):
        for index, part in enumerate(requests):
            outcome = answer(part, done, made[index])
            if outcome.response["status"] >= 400:
                missed = undone(index)
                raise Undone(together(requests, [*[missed] * index, outcome, *[missed] * (len(requests) - index - 1)]))
            done.append(outcome)
    return together(requests, done)


def kept_part(part: BatchRequest, outcome: Outcome) -> dict[str, Any]:
    """Return what is kept of the answer to one request of a batch.

    What was read is no part of what was done, and what is not kept alone, as a ticket or a code, is not kept here
    either.
    """
    told = outcome.response
    return told if outcome.keepable and not is_reading(part, told) else {**told, "body": None}


def is_reading(part: BatchRequest, told: dict[str, Any]) -> bool:
    """Tell whether the answer to one request of a batch shows what a retry reads anew."""
    return part.method == "GET" and bool(told["status"] < 400)


def replayed_batch(kept: Answer) -> Answer:
    """Return the kept answer to the batch at hand as a retry gets it.

    What was read is read anew, and what was told of another's record is told if that may be read.
    """
    outcomes: list[Outcome] = []
    for part, told in zip(
        take_decoded(BatchArguments).requests, orjson.loads(kept.get_data())["responses"], strict=True
    ):
        outcome = Outcome(told, len(orjson.dumps(told["body"])))
        if is_reading(part, told):
            outcome = read_again(part, told, part.headers, outcomes)
        elif told["status"] in (200, 201) and told["body"] is None:
            outcome = not_tried(NotFound("it was done; what its answer held is not told twice"))
        elif is_anothers(part, told["body"]):
            seen = read_again(part, told, {}, outcomes)
            outcome = outcome if seen.response["status"] < 400 else seen
        outcomes.append(outcome)
    return together([], outcomes)


def read_again(part: BatchRequest, told: dict[str, Any], conditions: dict[str, str], before: list[Outcome]) -> Outcome:
    """Return what is at the path of one request of a batch by now, under the id that it was told with."""
    headers = {**conditions, "X-Request-ID": told["headers"]["X-Request-ID"]}
    return answer(BatchRequest(method="GET", path=part.path, headers=headers), before)


def is_anothers(part: BatchRequest, told: Any) -> bool:
    """Tell whether the answer to a write is the record of another account; what a function told is no record."""
    if not isinstance(told, dict) or routed(part.path).startswith(FUNCTIONS):
        return False
    return bool(told.get("owner", g.identity.account) != g.identity.account)


def undone(index: int) -> Outcome:
    """Return the answer to a request that was undone, or not tried, because the one at `index` failed."""
    return not_tried(FailedDependency(f"request {index} of the batch failed, so nothing was done"))


def not_tried(problem: Problem) -> Outcome:
    """Return a problem as the answer to a request of the batch."""
    headers = {**problem.headers, "Content-Type": "application/problem+json"}
    response = {"status": problem.status, "headers": headers, "body": problem.as_dict(g.request_id)}
    return Outcome(response, keepable=problem.keepable)


def out_of_time(before: list[Outcome]) -> Problem:
    """Return why a request is not begun: those before it that read are too expensive, or MongoDB is slow."""
    long = sum(outcome.reading for outcome in before) > current_app.config["MONGODB_TIMEOUT"] / 2
    if long or any(outcome.is_too_expensive for outcome in before):
        return TooExpensive("the lists before this request took the time of the batch; send it in another")
    return DatabaseUnavailable("the requests before this one took the time of the batch; send it again")


def answer(part: BatchRequest, before: list[Outcome], made: Any = None) -> Outcome:
    """Return the answer to one request: the app's own dispatch, as for a request that comes alone.

    `before` are the answers to those before it, and `made` is what was made for it beforehand.
    """
    size, began = size_of(before), time.monotonic()
    if size > MOST_BYTES:
        return not_tried(TooLarge("the answers before this one are too large for one batch; send it in another"))
    if deadline.left() < LEAST_LEFT:
        return not_tried(out_of_time(before))
    request_id, started = g.request_id, g.started
    try:
        with current_app.request_context(environment(part, len(before), request_id) | {BEFOREHAND: made}):
            response = cast(Answer, current_app.full_dispatch_request())
            body = response.get_data()
            headers = {"X-Request-ID": g.request_id}
    finally:
        g.request_id, g.started = request_id, started
    reading = time.monotonic() - began if part.method == "GET" else 0.0
    if part.method == "GET" and size + len(body) > MOST_BYTES:
        # What was read can be read again; what was written has to be told.
        too_large = TooLarge("this answer is too large for the batch; send the request by itself")
        return not_tried(too_large)._replace(size=len(body), reading=reading)
    headers |= {name: response.headers[name] for name in ANSWER_HEADERS if name in response.headers}
    told = {"status": response.status_code, "headers": headers, "body": decoded_body(response, body)}
    keepable = response.keepable and response.kept_body is None and not response.is_admitted_anew
    return Outcome(told, len(body), keepable, reading)


def decoded_body(response: Answer, body: bytes) -> Any:
    """Return the body of an answer: JSON as it is, None for none, anything else as text."""
    if not body:
        return None
    return orjson.loads(body) if (response.mimetype or "").endswith("json") else body.decode()


def environment(part: BatchRequest, index: int, request_id: str) -> dict[str, Any]:
    """Return the WSGI environment of one request: its own path and headers, and the batch's client and token."""
    path, _, query = part.path.partition("?")
    headers = {"X-Request-ID": f"{request_id[:60]}.{index}", **part.headers}
    outer = request.environ
    made = {name: outer[name] for name in outer if name in KEPT_ENVIRONMENT or name.startswith("wsgi.")}
    made |= {
        "REQUEST_METHOD": part.method,
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "CONTENT_LENGTH": str(len(part.body)),
        "CONTENT_TYPE": "application/json" if part.body else "",
        "wsgi.input": BytesIO(part.body),
    }
    made |= {"HTTP_" + name.upper().replace("-", "_"): value for name, value in headers.items()}
    if (key := derived_key(part, index)) is not None:
        made[DERIVED_KEY] = key
    if transactions.is_active():
        made[ATOMIC] = True
    return made


def derived_key(part: BatchRequest, index: int) -> str | None:
    """Return the key of a write in a batch that has a key, so that a batch cut short goes on where it was cut."""
    key = request.headers.get("Idempotency-Key")
    if key is None or part.method not in WRITE_METHODS or "Idempotency-Key" in part.headers or transactions.is_active():
        return None
    return f"{key}\0{index}"
