"""Documents as RxDB has them: a record's JSON, and whether it is deleted."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from mongoengine import fields as me

from service.core.errors import Cause, ValidationFailed, pointer
from service.model import json_schema
from service.model.field import Field
from service.model.json_schema import Json
from service.model.record_type import RecordType
from service.mongo.raw import Raw

OWN_MEMBERS = frozenset({"_deleted", "_rev", "_meta", "_attachments"})
"""What the library keeps in a document for itself."""
FIRST_TIME = "1970-01-01T00:00:00.000Z"
NOTHING: Mapping[str, Any] = {
    "string": "",
    "boolean": False,
    "integer": 0,
    "number": 0,
    "array": [],
    "object": {},
}
"""What is empty, by its type in JSON Schema."""


class Documents:
    """The documents of a record type."""

    def __init__(self, type: RecordType) -> None:
        self.type = type
        # What has content of a record that is gone is nowhere, but a client's schema may ask for a value.
        self.empty = {name: nothing(field) for name, field in type.schema.fields.items()}

    def document(self, record: Raw) -> dict[str, Any]:
        """Return a stored record as a document."""
        return {**self.type.schema.dump(record), "_deleted": False}

    def gone(self, id: str) -> dict[str, Any]:
        """Return the document of a record that is deleted, or out of a client's sight: without any content."""
        return {**self.empty, "id": id, "_deleted": True}

    def values(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a client says in a document, by field; raises `ValidationFailed` for what is no field."""
        fields = self.type.schema.fields
        unknown = [name for name in document if name not in fields and name not in OWN_MEMBERS]
        if unknown:
            raise ValidationFailed(
                Cause("unknown_field", "there is no such field", pointer=pointer(name)) for name in unknown
            )
        return {name: value for name, value in document.items() if name in fields and fields[name].is_given_by_clients}

    def json_schema(self) -> Json:
        """Return the JSON Schema of a document."""
        made = self.type.schema.json_schema("read")
        deleted = {"type": "boolean", "description": "whether it is deleted, or out of sight: then all else is empty"}
        whole = {**made["properties"], "_deleted": deleted}
        return {
            **made,
            "title": f"{self.type.document.__name__}Document",
            "properties": {name: without_rules(part) for name, part in whole.items()},
            "required": [*made["required"], "_deleted"],
        }


@cache
def documents_of(type: RecordType) -> Documents:
    """Return the documents of a record type, made at their first use."""
    return Documents(type)


def nothing(field: Field) -> Any:
    """Return the emptiest value that is of the type of a field; null where it may be null."""
    if field.is_nullable:
        return None
    if isinstance(field.declared, me.DateTimeField):
        return FIRST_TIME if not isinstance(field.declared, me.DateField) else FIRST_TIME[:10]
    if field.document is not None:
        return {name: nothing(member) for name, member in field.members.items()}
    made = json_schema.of_value(field, "read")
    choices = json_schema.choices_of(made)
    return choices[0] if choices else NOTHING[made["type"]]


def without_rules(made: Json) -> Json:
    """Return the schema of a member without what a value that is empty breaks."""
    broken = {"minLength", "pattern", "minItems", "minimum", "format"}
    return {name: part for name, part in made.items() if name not in broken}


def problems_text(problems: list[dict[str, Any]], most: int) -> str:
    """Return as many problems as fit into so many bytes, as JSON in ASCII."""
    kept: list[str] = []
    size = 2
    for problem in problems:
        text = json.dumps(problem, separators=(",", ":"))
        size += len(text) + 1
        if size > most:
            break
        kept.append(text)
    return f"[{','.join(kept)}]"
