"""What an index can hold: a declared index into which no record fits would refuse every write."""

from collections.abc import Iterable, Iterator
from typing import Any

from mongoengine import fields as me
from pymongo import GEO2D, GEOSPHERE, HASHED

from service.documents.record import Record
from service.model.fields import GEOMETRIES, InvalidDocument

IndexedKeys = list[tuple[str, Any]]
SHAPE_KINDS = (GEO2D, GEOSPHERE)


def check_indexes(document: type[Record], own: Iterable[IndexedKeys]) -> None:
    """Raise `InvalidDocument` for an index, of MongoEngine's or of our `own`, that MongoDB fills with no record."""
    declared = [[*spec["fields"]] for spec in document._meta["index_specs"]]
    for keys in (*declared, *own):
        if obstacle := obstacle_to_index(document, keys):
            names = ", ".join(name for name, _ in keys)
            raise InvalidDocument(f"{document.__name__} has an index of {names}, but {obstacle}")


def obstacle_to_index(document: type[Record], keys: IndexedKeys) -> str:
    """Return why no record fits into an index; empty where records do."""
    for name, kind in keys:
        *_, last = [None, *fields_on(document, name)]
        if kind in SHAPE_KINDS and isinstance(last, me.ListField) and isinstance(last.field, GEOMETRIES):
            return f"there is none for {name}, a list of shapes; put each into an EmbeddedDocument"
        if kind == HASHED and is_in_list(document, name):
            return f"no list is hashed, and {name} is one or is in one"
    lists = [name for name, kind in keys if kind not in SHAPE_KINDS and is_in_list(document, name)]
    return f"it takes one list, and {' and '.join(lists)} are or stand in lists" if len(lists) > 1 else ""


def is_in_list(document: type[Record], path: str) -> bool:
    """Tell whether a list is on the way to what is stored at a path, or at its end."""
    return any(isinstance(field, me.ListField) for field in fields_on(document, path))


def fields_on(document: Any, path: str) -> Iterator[Any]:
    """Yield MongoEngine's fields on the way to what is stored at a dotted path, as far as a class declares them."""
    for name in path.split("."):
        field = next((field for field in getattr(document, "_fields", {}).values() if field.db_field == name), None)
        if field is None:
            return
        yield field
        inner = getattr(field, "field", None) or field
        document = inner.document_type if isinstance(inner, me.EmbeddedDocumentField) else None
