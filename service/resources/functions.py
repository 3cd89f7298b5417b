"""The routes of functions: who may call one, what it is given, and what is told of what it returns."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from service.context import current_globals, current_registry
from service.core.errors import Forbidden
from service.http.arguments import json_body, take
from service.http.functions import Function, PayloadClass
from service.http.openapi import operation
from service.http.web import Answer, json_answer
from service.model.json_schema import Purpose, camel
from service.model.schema import Schema
from service.mongo.portion import PORTION_BYTES
from service.policy import Identity
from service.records.acting import Acting
from service.records.reading import TooMuch
from service.resources.resource import Resource, tombstones_kept
from service.security import security

CODES = ("forbidden", "too_many_requests", "too_expensive", "not_found", "already_exists", "limit_reached")
"""What a function may answer beside what any write does, and what it writes may."""


def add_functions(api: Any, functions: Mapping[str, Function]) -> None:
    """Add the route of each function."""
    for name, function in functions.items():
        api.add_resource(resource_of(function), f"/functions/{name}", endpoint=f"functions/{name}")


class ModelPayload:
    """A body or an answer that is a model of pydantic's."""

    def __init__(self, shape: type[BaseModel]) -> None:
        self.shape = shape

    def described(self, _purpose: Purpose) -> Any:
        """Return what the API document describes it by."""
        return self.shape

    def taken(self) -> BaseModel:
        """Return the body of the request; raises `ValidationFailed`."""
        return take(self.shape)

    def content(self, answer: Any) -> Any:
        """Return an answer as JSON has it."""
        return answer.model_dump(mode="json", by_alias=True)


class DocumentPayload:
    """A body or an answer that is an embedded document."""

    def __init__(self, shape: Any) -> None:
        self.shape, self.schema = shape, Schema(shape)

    def described(self, purpose: Purpose) -> Any:
        """Return what the API document describes it by."""
        return self.schema.json_schema(purpose)

    def taken(self) -> Any:
        """Return the body of the request; raises `ValidationFailed`."""
        return self.shape._from_son(self.schema.load(json_body()))

    def content(self, answer: Any) -> Any:
        """Return an answer as JSON has it. Raises `Unreadable`."""
        return self.schema.dump(answer.to_mongo())


CompiledPayload = ModelPayload | DocumentPayload


def compiled_payload(shape: PayloadClass | None) -> CompiledPayload | None:
    """Return the compiled form of a body or an answer, None for none."""
    if shape is None:
        return None
    return ModelPayload(shape) if issubclass(shape, BaseModel) else DocumentPayload(shape)


def resource_of(function: Function) -> type[Resource]:
    """Return the resource at which a function is called. Raises `UnsupportedField` for what JSON cannot tell."""
    body, answer, name = compiled_payload(function.body), compiled_payload(function.answer), camel(function.name)

    @operation(
        function.summary,
        name=name[:1].lower() + name[1:],
        tag="functions",
        example=function.example,
        body=None if body is None else body.described("create"),
        answer={204: None} if answer is None else {200: answer.described("read")},
        problems=CODES,
        replayed=lambda kept: still_told(function, kept),
    )
    def post(_self: Resource) -> Answer | tuple[None, int]:
        """Call the function."""
        acting = admitted(function)
        told = function(acting) if body is None else function(acting, body.taken())
        if answer is None:
            return None, 204
        made = answer_of(function, answer, told)
        made.noted = acting.noted
        made.is_admitted_anew = bool(function.roles) or acting.noted.is_any
        return made

    return type(f"Function{name}", (Resource,), {"post": post, "__doc__": function.summary})


def admitted(function: Function) -> Acting:
    """Return what a function acts by, if the identity of the request may call it, and so often.

    Raises `Forbidden` and `TooManyRequests`.
    """
    who = current_globals().identity
    refuse_without_role(function, who)
    if function.limit is not None:
        security().throttle.hit(function.limit, "function", function.name, who.account)
    return Acting(current_registry(), who, tombstones_kept(), function.name)


def refuse_without_role(function: Function, who: Identity) -> None:
    """Raise `Forbidden` for who has none of the roles that a function is for."""
    if function.roles and function.roles.isdisjoint(who.roles):
        raise Forbidden("only who has a certain role may call this")


def still_told(function: Function, kept: Answer) -> Answer:
    """Return the kept answer of a function to who may still call it. Raises `Forbidden`."""
    refuse_without_role(function, current_globals().identity)
    kept.is_admitted_anew |= bool(function.roles)
    return kept


def answer_of(function: Function, payload: CompiledPayload, told: Any) -> Answer:
    """Return what a function returned as the answer to its call.

    Raises `TypeError` where it is not what was declared, and `TooMuch` where it is more than an answer holds.
    """
    if not isinstance(told, payload.shape):
        raise TypeError(f"the function {function.name!r} returned {type(told).__name__}, not {payload.shape.__name__}")
    made = json_answer(payload.content(told))
    if len(made.get_data()) > PORTION_BYTES:
        raise TooMuch("the answer of this function is more than one answer holds")
    return made
