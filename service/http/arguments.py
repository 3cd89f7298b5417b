"""What a request brings, taken in one way: from the query string, JSON, a form or files, with types and defaults."""

from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, TypeVar

from flask import request
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from service.context import current_service
from service.core.errors import BadParameter, Cause, TooLarge, UnsupportedMediaType, ValidationFailed, pointer
from service.core.json_text import as_object, decode
from service.core.query_string import each_once
from service.http.web import current_request
from service.model.validation import causes

Source = Literal["query", "json", "form", "files"]
JSON_TYPES = frozenset({"application/json", "application/merge-patch+json"})


class Arguments(BaseModel):
    """The arguments of one operation: each field is one, with its type and default. An unknown one is refused."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


Declared = TypeVar("Declared", bound=BaseModel)


@cache
def validator_of(declared: type[Declared]) -> TypeAdapter[Declared]:
    """Return the compiled validator of declared arguments."""
    return TypeAdapter(declared)


def take(declared: type[Declared], source: Source = "json") -> Declared:
    """Return the `declared` arguments from one part of the request.

    JSON is strict about types, text of a query string or a form is read as the declared type. Raises `BadParameter`
    for the query string and `ValidationFailed` for a body, with every cause at once.
    """
    try:
        if source == "json":
            json_object()  # for its problems, which are those of any body
            # The text itself: only of JSON does pydantic know that it has no type for a time.
            found: Declared = validator_of(declared).validate_json(current_request().body, strict=True)
        else:
            found = validator_of(declared).validate_python(texts(source))
    except ValidationError as error:
        if source == "query":
            raise BadParameter("the query string is not right", list(parameter_causes(error))) from None
        raise ValidationFailed(causes(error)) from None
    return found


def take_decoded(declared: type[Declared]) -> Declared:
    """Return the `declared` arguments of a body in which there is JSON for others: that is as `json_object` has it.

    Raises `ValidationFailed`.
    """
    try:
        found: Declared = validator_of(declared).validate_python(json_object(), strict=True)
    except ValidationError as error:
        raise ValidationFailed(causes(error)) from None
    return found


def texts(source: Source) -> dict[str, Any]:
    """Return the members of the query string, a form or its files; raises a problem for one that stands twice."""
    if source == "query":
        return parameters()
    members = request.form if source == "form" else request.files
    for name, values in members.lists():
        if len(values) > 1:
            raise ValidationFailed([Cause("twice", "once", pointer=pointer(name))])
    found: dict[str, Any] = members.to_dict()
    return found


def parameters() -> dict[str, str]:
    """Return the parameters of the query string; raises `BadParameter` for one that stands twice."""
    return each_once(current_request().parameters)


def parameter_causes(error: ValidationError) -> Iterator[Cause]:
    """Yield what pydantic found, as causes about query parameters."""
    for cause in causes(error):
        yield Cause(cause.code, cause.detail, parameter=(cause.pointer or "").lstrip("/"))


def json_object() -> dict[str, Any]:
    """Return the JSON object in the body. Raises `MalformedJson`."""
    return as_object(json_body())


def has_body() -> bool:
    """Tell whether the request has a body."""
    return current_request().has_body


def json_body() -> Any:
    """Return the decoded JSON of the body.

    Raises `UnsupportedMediaType` when it is not sent as plain JSON, `MalformedJson` when it cannot be read, and
    `ValidationFailed` where a string holds NUL, which other software would take for its end.
    """
    return decode(json_text())


def json_text() -> bytes:
    """Return the JSON of the body as it was sent; raises `UnsupportedMediaType` when it is not sent as plain JSON."""
    sent = current_request()
    data, limit = sent.body, sent.max_content_length or current_service().config["MAX_CONTENT_LENGTH"]
    if len(data) >= limit and sent.content_length is None:
        # Werkzeug cuts a body of unknown length at the limit, without a word.
        raise TooLarge(f"the body has more than {limit} bytes")
    if data and sent.environ.get("CONTENT_TYPE") not in JSON_TYPES and sent.mimetype not in JSON_TYPES:
        raise UnsupportedMediaType("send JSON with `Content-Type: application/json`")
    if data and sent.environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        raise UnsupportedMediaType("send the body as it is, without `Content-Encoding`")
    return data
