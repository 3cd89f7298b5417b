"""Compiled validators of pydantic, and what they find as causes of a problem document."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from json import JSONDecoder
from typing import Annotated, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from service.core.errors import MOST_CAUSES, Cause, ValidationFailed, pointer

Validator = TypeAdapter[Any]


def validator(annotated: Any) -> Validator:
    """Return the compiled validator of an annotation, strict about types."""
    bare = getattr(annotated, "__origin__", annotated)
    return TypeAdapter(annotated, config=None if hasattr(bare, "__pydantic_config__") else ConfigDict(strict=True))


def validator_of_rules(*rules: Any) -> Validator:
    """Return the compiled validator of a value that only `rules` check."""
    return validator(Annotated[Any, *rules])


def validate(by: Validator, value: Any, *place: str | int) -> Any:
    """Return `value` as a validator makes it; raises `ValidationFailed` with pointers that begin at `place`."""
    try:
        return by.validate_python(value)
    except ValidationError as error:
        raise ValidationFailed(causes(error, place)) from None


def required(name: str) -> Cause:
    """Return the cause that a body lacks a member."""
    return Cause("required", "this field is required", pointer=pointer(name))


def causes(error: ValidationError, place: Iterable[str | int] = ()) -> list[Cause]:
    """Return the first of what pydantic found as causes of a problem document: at most `MOST_CAUSES`."""
    found = []
    for detail in islice(details(error), MOST_CAUSES):
        steps = detail["loc"][:-1] if detail["type"] == "key" and detail["loc"][-1:] == ("[key]",) else detail["loc"]
        inside = detail.get("ctx", {}).get("place", ())
        found.append(Cause(*code_and_detail(detail), pointer=pointer(*place, *steps, *inside)))
    return found


def details(error: ValidationError) -> Iterator[ErrorDetails]:
    """Yield what pydantic found, one by one: in its own list a hundred thousand mistakes are 60 MB."""
    if error.error_count() <= MOST_CAUSES:
        yield from error.errors(include_url=False, include_input=False)
        return
    text = error.json(include_url=False, include_input=False)
    decoder, end = JSONDecoder(), 0
    while text[end] != "]":
        detail, end = decoder.raw_decode(text, end + 1)
        yield detail


WORDING: Mapping[str, tuple[str, str]] = {
    "missing": ("required", "this field is required"),
    "extra_forbidden": ("unknown_field", "there is no such field"),
    "string_type": ("wrong_type", "a string"),
    "int_type": ("wrong_type", "a whole number"),
    "int_parsing": ("wrong_type", "a whole number"),
    "int_from_float": ("wrong_type", "a whole number"),
    "bool_type": ("wrong_type", "true or false"),
    "bool_parsing": ("wrong_type", "true or false"),
    "float_type": ("wrong_type", "a number"),
    "float_parsing": ("wrong_type", "a number"),
    "list_type": ("wrong_type", "a list"),
    "dict_type": ("wrong_type", "an object"),
    "string_too_long": ("too_long", "at most {max_length} characters"),
    "string_too_short": ("too_short", "at least {min_length} characters"),
    "bytes_too_long": ("too_long", "at most {max_length} bytes"),
    "too_long": ("too_long", "at most {max_length} entries"),
    "too_short": ("too_short", "at least {min_length} entries"),
    "greater_than_equal": ("too_small", "at least {ge}"),
    "less_than_equal": ("too_large", "at most {le}"),
    "literal_error": ("not_allowed", "one of {expected}"),
}


def code_and_detail(error: ErrorDetails) -> tuple[str, str]:
    """Return the stable code of a pydantic error and the sentence that says what would be right."""
    code, wording = WORDING.get(error["type"], ("", ""))
    context = error.get("ctx")
    if not wording or (context is None and "{" in wording):
        # Not pydantic's own: the error of a rule in `fields`, whose code may be the same.
        return error["type"], error["msg"]
    text = wording.format(**(context or {}))
    return code, text.replace(" 1 characters", " 1 character").replace(" 1 entries", " 1 entry")
