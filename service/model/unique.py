"""What no two records of a type share: a value, or values of several fields together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pymongo import ASCENDING, IndexModel

from service.core.errors import AlreadyExists, Cause, pointer
from service.documents.record import Record
from service.model.field import Field
from service.model.fields import EQUAL, InvalidDocument, named
from service.model.places import Place, place_at, places


@dataclass(frozen=True, slots=True, eq=False)
class Unique:
    """Places whose values, taken together, stand in one record of a type alone.

    Where one of them has no value, nothing is compared, and what is left of a deleted record has none.
    """

    places: tuple[Place, ...]

    @property
    def stored(self) -> list[str]:
        """Return the dotted names of the places as MongoDB has them."""
        return [place.stored for place in self.places]

    @property
    def index(self) -> IndexModel:
        """Return the index that holds it: a partial one, for a missing value is none to MongoDB but null."""
        present = {name: {"$exists": True} for name in self.stored}
        keys = [(name, ASCENDING) for name in self.stored]
        return IndexModel(keys, name="unique_" + "_".join(self.stored), unique=True, partialFilterExpression=present)

    @property
    def said(self) -> str:
        """Return the sentence about what would be right."""
        of_owner = " of its owner" if "owner" in self.stored else ""
        names = [place.name for place in self.given]
        if len(names) == 1:
            return f"a value that no other record{of_owner} has"
        return f"values of {' and '.join(names)} that no other record{of_owner} has together"

    @property
    def given(self) -> list[Place]:
        """Return the places whose values do not come from the server alone, or all where they do."""
        return [place for place in self.places if not place.root.read_only] or list(self.places)

    def problem(self) -> AlreadyExists:
        """Return the problem of a record that would have the same as another."""
        names = [place.name for place in self.given]
        causes = [Cause("not_unique", self.said, pointer=pointer(*name.split("."))) for name in names]
        return AlreadyExists(f"the {' and '.join(names)} {'is' if len(names) == 1 else 'are'} taken", causes)


def uniques_of(document: type[Record], fields: Mapping[str, Field]) -> Iterator[Unique]:
    """Yield what a document class declares to be unique; raises `InvalidDocument` for what no index can hold."""
    refuse_hidden(document)
    refuse_indexes(document)
    for place in places(fields, lambda field: field.declared.unique and not field.is_id):
        around = place.name.rpartition(".")[0]
        others = (place_at(fields, f"{around}.{name}" if around else name) for name in unique_with(place.field))
        found = [place, *(other for other in others if other is not None)]
        for one in found:
            if obstacle := obstacle_to_unique(one):
                raise InvalidDocument(f"{document.__name__}.{place.name} cannot be unique: {one.name} {obstacle}")
        yield Unique(tuple(found))


def unique_with(field: Field) -> list[str]:
    """Return the names of the fields with which, taken together, a field is unique."""
    names = field.declared.unique_with or ()
    return [names] if isinstance(names, str) else list(names)


def obstacle_to_unique(place: Place) -> str:
    """Return why the value at a place cannot be unique; empty where it can."""
    default = place.field.declared.default
    found = {
        "stands in a list or a map, where an index compares each entry with those of all records": (
            len(place.members) < len(place.steps)
        ),
        "holds no single value": not place.field.meaning.compare >= EQUAL,
        "has a default, which two records would share": default is not None and not callable(default),
    }
    return next((sentence for sentence, is_so in found.items() if is_so), "")


def refuse_hidden(document: type[Record]) -> None:
    """Raise `InvalidDocument` for a unique field that is hidden: no client could be told what is taken."""
    for field in document._fields.values():
        if field.unique and getattr(field, "hidden", False):
            raise InvalidDocument(f"{named(field)} cannot be unique: no client sees it, and could be told of it")


def refuse_indexes(document: type[Record]) -> None:
    """Raise `InvalidDocument` for a unique index that is declared as such: deleted records would share null in it."""
    for spec in document._meta["indexes"]:
        if isinstance(spec, Mapping) and spec.get("unique"):
            raise InvalidDocument(
                f"{document.__name__} has a unique index of {', '.join(map(str, spec['fields']))}; "
                "say unique=True on the field, and unique_with=… for others"
            )


def told_unique(field: Field) -> str:
    """Return what the description of a field says of its being unique; empty where it is not."""
    if not field.declared.unique or field.is_id:
        return ""
    names = unique_with(field)
    of_owner = " of its owner" if "owner" in names else ""
    others = " and ".join(name for name in names if name != "owner")
    return f"unique: no other record{of_owner} has the same" + (f" with the same {others}" if others else "")


def stored_unique(uniques: tuple[Unique, ...], pattern: Mapping[str, Any]) -> Unique | None:
    """Return the one whose index has the keys `pattern`."""
    return next((unique for unique in uniques if unique.stored == list(pattern)), None)
