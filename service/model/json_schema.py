"""The JSON Schema (2020-12) of what a document is in a request and in an answer."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from mongoengine import fields as me

from service.model.dump import json_default
from service.model.field import Document, Field
from service.model.load import annotation
from service.model.unique import told_unique
from service.model.validation import validator

Purpose = Literal["read", "create", "patch"]
Json = dict[str, Any]
Expanded = Mapping[Field, Json]
"""The JSON Schema of what may stand in place of the id in a reference field."""
NOTHING: Expanded = {}


def of_object(document: Document, fields: Mapping[str, Field], purpose: Purpose, expanded: Expanded = NOTHING) -> Json:
    """Return the JSON Schema of a document of these fields that is read, created or patched."""
    properties = {name: of_field(field, purpose, expanded) for name, field in fields.items() if is_in(field, purpose)}
    made: Json = {
        "type": "object",
        "description": (document.__doc__ or document.__name__).split("\n")[0],
        "properties": properties,
        "additionalProperties": False,
    }
    required = [name for name, field in fields.items() if purpose == "read" or field.is_named_at_creation]
    if required and purpose != "patch":
        made["required"] = required
    if purpose == "patch":
        made["properties"] |= of_operators(fields)
    return made


def is_in(field: Field, purpose: Purpose) -> bool:
    """Tell whether a field is a member of a document for a purpose."""
    return purpose == "read" or not (field.read_only or (purpose == "patch" and field.fixed))


def of_operators(fields: Mapping[str, Field]) -> Json:
    """Return the JSON Schema of each update operator that some of the `fields` take."""
    found: Json = {}
    for name, field in fields.items():
        for operator in sorted(field.meaning.update) if not field.read_only else ():
            operators = found.setdefault(operator, {"type": "object", "properties": {}, "additionalProperties": False})
            operators["properties"][name] = of_operand(field)
    return found


def of_operand(field: Field) -> Json:
    """Return the JSON Schema of what an update operator takes for `field`: a value, or for a list one or several."""
    if not field.is_list or field.entry is None:
        return validator(annotation(field, False)).json_schema()
    entry = of_value(field.entry, "create")
    each = {"type": "array", "items": entry}
    several = {"type": "object", "properties": {"each": each}, "required": ["each"], "additionalProperties": False}
    return {"anyOf": [entry, several]}


def of_field(field: Field, purpose: Purpose, expanded: Expanded = NOTHING) -> Json:
    """Return the JSON Schema of a field."""
    made = of_value(field, purpose, expanded)
    if field.is_nullable or (purpose == "patch" and not field.is_required):
        made = {"anyOf": [made, {"type": "null"}]}
    if texts := list(filter(None, (getattr(field.declared, "help_text", None), told_unique(field)))):
        made["description"] = "; ".join(texts)
    if purpose == "read" and field.read_only:
        made["readOnly"] = True
    if purpose == "create" and field.declared.default is not None and not field.is_id:
        made["default"] = json_default(field)
    return made


def of_value(field: Field, purpose: Purpose, expanded: Expanded = NOTHING) -> Json:
    """Return the JSON Schema of a value of `field`."""
    if field.document is not None:
        return of_object(field.document, field.members, "read" if purpose == "read" else "create", expanded)
    if field.is_list and field.entry is not None:
        most = getattr(field.declared, "max_length", None)
        limits = {} if most is None else {"maxItems": most}
        least = {"minItems": 1} if field.is_required else {}
        return {"type": "array", "items": of_value(field.entry, purpose, expanded), **least, **limits}
    if field.is_map and field.entry is not None:
        return {"type": "object", "additionalProperties": of_value(field.entry, purpose, expanded)}
    made = validator(annotation(field)).json_schema() | told_limits(field.declared)
    return {"anyOf": [made, expanded[field], {"type": "null"}]} if field in expanded else made


def told_limits(declared: Any) -> Json:
    """Return the limits of a field that its validator does not tell pydantic, as far as JSON Schema can say them."""
    told = {
        "maxLength": getattr(declared, "max_length", None) if isinstance(declared, me.StringField) else None,
        "minimum": declared.min_value if isinstance(declared, me.FloatField) else None,
        "maximum": declared.max_value if isinstance(declared, me.FloatField) else None,
    }
    pattern = getattr(declared, "regex", None)
    if pattern is not None and not pattern.flags & re.IGNORECASE:
        told["pattern"] = pattern.pattern
    return {name: value for name, value in told.items() if value is not None}
