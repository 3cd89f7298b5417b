"""Functions: what the team lets clients call, with a typed body and a typed answer."""

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import limits
from mongoengine import EmbeddedDocument
from pydantic import BaseModel, ConfigDict

FUNCTION_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST_FUNCTION_NAME = 64
PayloadClass = type[BaseModel] | type[EmbeddedDocument]
"""What a body or an answer is an instance of."""


class Payload(BaseModel):
    """A body or an answer: each field is a member, with its type and default. An unknown one is refused."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A Python function that clients call at `POST /v1/functions/<name>`.

    It is given who acts (`records.acting.Acting`) and, where there is one, the checked body. Who has none of the
    `roles` may not call it; with no roles named, everyone signed in may. `limit` is how often an account may call it.
    """

    name: str
    work: Callable[..., Any]
    body: PayloadClass | None
    answer: PayloadClass | None
    roles: frozenset[str]
    limit: limits.RateLimitItem | None
    example: Any

    def __call__(self, *given: Any) -> Any:
        """Call it as plain Python, as a test does."""
        return self.work(*given)

    @property
    def summary(self) -> str:
        """What it does, in one line: the first of its docstring."""
        return (self.work.__doc__ or "").strip().split("\n")[0].removesuffix(".")


def function(
    name: str,
    body: PayloadClass | None = None,
    answer: PayloadClass | None = None,
    roles: Iterable[str] = (),
    limit: str | None = None,
    example: Any = None,
) -> Callable[[Callable[..., Any]], Function]:
    """Make of a Python function one that clients call: see `Function`. `limit` is such as `10/minute`.

    Raises `TypeError` for what could not be called, or does not say what it does, and `ValueError` for a wrong limit.
    """

    def made(work: Callable[..., Any]) -> Function:
        rate = None if limit is None else limits.parse(limit)
        found = Function(
            name, work, body, answer, frozenset([roles] if isinstance(roles, str) else roles), rate, example
        )
        check_function(found)
        return found

    return made


def check_function(found: Function) -> None:
    """Raise `TypeError` for a function that could not be called, or does not say what it does."""
    what = f"the function {found.name!r}"
    if not FUNCTION_NAME.fullmatch(found.name) or len(found.name) > LONGEST_FUNCTION_NAME:
        raise TypeError(
            f"{what} has to be called in small letters, digits and single hyphens, {LONGEST_FUNCTION_NAME} at most"
        )
    if not found.summary:
        raise TypeError(f"{what} needs a docstring, whose first line tells clients what it does")
    wanted = ["acting"] if found.body is None else ["acting", "body"]
    if inspect.iscoroutinefunction(found.work) or len(inspect.signature(found.work).parameters) != len(wanted):
        raise TypeError(f"{what} has to be a plain function that takes {', '.join(wanted)}")
    for shape in (found.body, found.answer):
        if shape is not None and not (isinstance(shape, type) and issubclass(shape, BaseModel | EmbeddedDocument)):
            raise TypeError(f"{what}: a body or an answer is a class of pydantic's, or an EmbeddedDocument")
        if shape is found.body and isinstance(shape, type) and issubclass(shape, BaseModel) and takes_anything(shape):
            raise TypeError(f"{what}: {shape.__name__} takes members that nobody knows; inherit Payload")


def takes_anything(shape: type[BaseModel]) -> bool:
    """Tell whether a class passes over members that it does not know."""
    return shape.model_config.get("extra") != "forbid"


def functions_by_name(modules: Sequence[ModuleType]) -> dict[str, Function]:
    """Return the functions of some modules by name. Raises `TypeError` where two have one name."""
    found: dict[str, Function] = {}
    for one in (value for module in modules for value in vars(module).values() if isinstance(value, Function)):
        if found.setdefault(one.name, one) is not one:
            raise TypeError(f"there are two functions called {one.name!r}")
    return found
