"""The inputs of a form of the console, made from the fields of a record type and the texts that they have."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as member
from typing import Any

import orjson

from service.core.errors import Cause
from service.model.field import Field
from service.pages.console_files import FILES_NAME
from service.pages.console_kinds import choices, input_kind
from service.pages.console_maps import Mark, mark
from service.pages.console_values import SAID_TO_BE_THERE, Flat, Reading


@dataclass(slots=True)
class Input:
    """One input, or a group of them with its own `parts`; `at` is its name, `mistakes` are told beside it.

    `hint` says what the document says of its field. `target` is the name of the type that a reference points to. Who
    comes to the form goes on at the one that `is_focused`.
    """

    at: str
    label: str
    kind: str
    text: str
    is_required: bool
    hint: str = ""
    choices: list[tuple[str, str]] = member(default_factory=list)
    parts: list["Input"] = member(default_factory=list)
    mistakes: list[str] = member(default_factory=list)
    is_there: bool = True
    is_optional: bool = False
    is_entry: bool = False
    key: str | None = None
    longitude: str = ""
    latitude: str = ""
    target: str = ""
    is_focused: bool = False

    @property
    def mark(self) -> Mark | None:
        """Where a point is on its map."""
        return mark(self.longitude, self.latitude)

    @property
    def first(self) -> "Input":
        """The first one that a person fills in: of an embedded document, which is no element itself, one in it."""
        return self.parts[0].first if self.kind == "object" and self.parts and self.key != "" else self

    @property
    def id(self) -> str:
        """The id of its element."""
        return "in" + self.at.replace("/", "-").replace("#", "_")


def inputs(
    fields: Mapping[str, Field], flat: Flat, causes: Iterable[Cause], moved: Mapping[str, str], button: str = ""
) -> "Inputs":
    """Return the inputs of a form with what is wrong at each; `moved` is that of the `Reading`.

    Who has sent the form goes on where its `button` has changed it, or at the first mistake.
    """
    made = Inputs(flat)
    made.all = [made.of(field, f"/{name}", name) for name, field in fields.items()]
    for cause in causes:
        made.tell(cause, moved)
    wrong = (one for one in made.by_name.values() if one.mistakes)
    if (found := made.changed_by(button) or next(wrong, None)) is not None:
        found.first.is_focused = True
    return made


class Inputs:
    """All of a form; `others` are the mistakes that belong to none of them."""

    def __init__(self, flat: Flat) -> None:
        self.flat = flat
        self.by_name: dict[str, Input] = {}
        self.all: list[Input] = []
        self.others: list[str] = []

    @property
    def has_files(self) -> bool:
        """Whether one of them takes a file."""
        return any(one.target == FILES_NAME for one in self.by_name.values())

    def of(self, field: Field, at: str, label: str, is_entry: bool = False) -> Input:
        """Return the input of a field at a name."""
        kind = input_kind(field)
        made = Input(
            at=at,
            label=label,
            kind=kind,
            text=self.flat.get(at, ""),
            is_required=field.is_named_at_creation and not is_entry,
            hint=str(getattr(field.declared, "help_text", None) or ""),
            is_there=kind not in SAID_TO_BE_THERE or at in self.flat or kind == "list",
            is_optional=kind in SAID_TO_BE_THERE and kind != "list" and not is_entry,
            is_entry=is_entry,
        )
        if is_entry and f"{at}#key" in self.flat:
            made.key = self.flat[f"{at}#key"]
        if kind == "point":
            made.longitude, made.latitude = (self.flat.get(f"{at}#{part}", "") for part in ("lon", "lat"))
        if kind in ("choice", "bool"):
            made.choices = [*options(field)]
        if kind == "reference":
            made.target = target_of(field)
        if kind in SAID_TO_BE_THERE and made.is_there:
            made.parts = [*self.parts(field, at)]
        self.by_name[at] = made
        return made

    def parts(self, field: Field, at: str) -> Iterator[Input]:
        """Yield the inputs of what is in a list, a map or an embedded document."""
        if field.entry is None:
            yield from (self.of(one, f"{at}/{name}", name) for name, one in field.members.items())
            return
        for index, name in enumerate(Reading(self.flat).entries(at)):
            yield self.of(field.entry, name, f"{field.name or field.stored} {index + 1}", is_entry=True)

    def changed_by(self, button: str) -> Input | None:
        """Return what a button has changed: an entry that it added, or what is around one that it removed."""
        verb, _, at = button.partition(" ")
        found = self.by_name.get(at)
        if verb == "remove" and (found is None or found.is_entry):
            return self.by_name.get(at.rpartition("/")[0])
        if verb == "add" and found is not None and found.kind in ("list", "map") and found.parts:
            return found.parts[-1]
        return found

    def tell(self, cause: Cause, moved: Mapping[str, str]) -> None:
        """Put a cause to the input that it is about, or to the nearest around it."""
        place = cause.pointer or ""
        while place:
            if (found := self.by_name.get(moved.get(place, place))) is not None:
                found.mistakes.append(cause.detail)
                return
            place = place.rpartition("/")[0]
        self.others.append(f"{(cause.pointer or '').lstrip('/')} {cause.detail}".strip())


def options(field: Field) -> Iterator[tuple[str, str]]:
    """Yield the choices of a field: what a form sends, and what a person reads."""
    for value in [True, False] if input_kind(field) == "bool" else choices(field):
        text = orjson.dumps(value).decode()
        yield text, value if isinstance(value, str) else text


def target_of(field: Field) -> str:
    """Return what a reference points to: the name of a record type, or `accounts`."""
    target: Any = field.target
    return str(target._get_collection_name())
