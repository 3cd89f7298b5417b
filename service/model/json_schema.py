"""The JSON Schema (2020-12) of what a document is in a request and in an answer."""

import re
from collections.abc import Mapping
from typing import Any, Literal

import orjson
from mongoengine import fields as me

from service.model.dump import json_default
from service.model.field import Document, Field
from service.model.fields import is_text
from service.model.load import annotation
from service.model.unique import told_unique
from service.model.updates import PUSH_OPTIONS
from service.model.validation import validator

Purpose = Literal["read", "create", "patch"]
Json = dict[str, Any]
NAME_ENDS: Mapping[Purpose, str] = {"read": "", "create": "Create", "patch": "Patch"}
OTHER_TITLES = {"File": "StoredFile"}
"""What a class is called whose own name is something else to the generators of clients: `java.io.File` in Kotlin."""


def title_of(document: Document) -> str:
    """Return by which name the API document and generated clients know a document class."""
    return OTHER_TITLES.get(document.__name__, document.__name__)


def of_object(document: Document, fields: Mapping[str, Field], purpose: Purpose) -> Json:
    """Return the JSON Schema of a document of these fields that is read, created or patched.

    Each object in it has a `title`, by which the API document and generated clients call it.
    """
    properties = {name: of_field(field, purpose) for name, field in fields.items() if is_in(field, purpose)}
    made: Json = {
        "title": title_of(document) + NAME_ENDS[purpose],
        "type": "object",
        "description": (document.__doc__ or document.__name__).split("\n")[0],
        "properties": properties,
        "additionalProperties": False,
    }
    required = [name for name, field in fields.items() if purpose == "read" or field.is_named_at_creation]
    if required and purpose != "patch":
        made["required"] = required
    if purpose == "patch":
        made["properties"] |= of_operators(title_of(document), fields)
    return made


def is_in(field: Field, purpose: Purpose) -> bool:
    """Tell whether a field is a member of a document for a purpose."""
    return purpose == "read" or not (field.read_only or (purpose == "patch" and field.fixed))


def of_operators(owner: str, fields: Mapping[str, Field]) -> Json:
    """Return the JSON Schema of each update operator that some of the `fields` of the class `owner` take."""
    # Paths into a field are taken too, which no generator can write down.
    cleared = [name for name, field in fields.items() if field.is_patched and not field.is_required]
    some = {"title": f"{owner}Unset", "type": "string", "enum": cleared}
    found: Json = {"$unset": {"type": "array", "items": some}} if cleared else {}
    for name, field in fields.items():
        for operator in sorted(field.meaning.update) if not field.read_only else ():
            empty = {"title": camel(f"{owner} {operator}"), "type": "object", "properties": {}}
            operators = found.setdefault(operator, {**empty, "additionalProperties": False})
            operators["properties"][name] = of_operand(owner, field, operator)
    return found


def camel(text: str) -> str:
    """Return the words of a text as one name, each with a capital."""
    return "".join(word[0].upper() + word[1:] for word in re.findall("[A-Za-z0-9]+", text))


def of_operand(owner: str, field: Field, operator: str) -> Json:
    """Return the JSON Schema of what an update operator takes for `field`: a value, or for a list its entries.

    One entry alone is taken too, but a union of the two is what many generators cannot write down.
    """
    if not field.is_list or field.entry is None:
        return validator(annotation(field, False)).json_schema() | number_format(field.declared)
    options: Json = {}
    if operator == "$push":
        options = {option: {"type": "integer", "format": "int32"} for option in PUSH_OPTIONS}
    return {
        "title": camel(f"{owner} {field.name} {'Pushed' if options else 'Entries'}"),
        "type": "object",
        "description": "Entries of the list. One entry may stand here by itself too, without `each`.",
        "properties": {
            "each": {"type": "array", "items": of_value(field.entry, "create", choices_name(field))},
            **options,
        },
        "required": ["each"],
        "additionalProperties": False,
    }


def of_field(field: Field, purpose: Purpose) -> Json:
    """Return the JSON Schema of a field."""
    made = of_value(field, purpose)
    if field.is_nullable or (purpose == "patch" and not field.is_required):
        made = {"anyOf": [made, {"type": "null"}]}
    elif "title" in made:
        made = {"allOf": [made]}  # what is said of this field is not said of all that have the same schema
    if text := description(field, purpose):
        made["description"] = text
    if purpose == "read" and field.read_only:
        made["readOnly"] = True
    return made


def description(field: Field, purpose: Purpose) -> str:
    """Return what a person is told of a field.

    Its default stands here, not in `default`: generators take what has one for a member that always has to be there.
    """
    as_text = "a whole number of 64 bits; a JSON number is taken too" if is_text(field.declared) else None
    texts = getattr(field.declared, "help_text", None), as_text, told_choices(field), told_unique(field)
    text = "; ".join(filter(None, texts))
    default = field.declared.default
    is_made = callable(default) and default not in (list, dict)
    if purpose != "create" or field.is_id or field.is_named_at_creation or default is None or is_made:
        return text
    return "; ".join(filter(None, [text, f"`{orjson.dumps(json_default(field)).decode()}` where it is left out"]))


def told_choices(field: Field) -> str:
    """Return what a person is told of choices that stand in a condition: see `fields.enumerated`."""
    if not field.declared.choices:
        return ""
    made = validator(annotation(field)).json_schema()
    told = choices_of(made) if "enum" not in made else []
    return "one of " + ", ".join(orjson.dumps(value).decode() for value in told) if told else ""


def choices_of(made: Json) -> list[Any]:
    """Return the choices that the JSON Schema of a value has, where it has any; see `fields.enumerated`."""
    found: list[Any] = made.get("enum") or made.get("then", {}).get("enum", [])
    return found


def choices_name(field: Field) -> str:
    """Return what the choices of a field are called: by the class that declares it, whatever they are asked for."""
    return camel(f"{field.declared.owner_document.__name__} {field.name}")


def of_value(field: Field, purpose: Purpose, name: str = "") -> Json:
    """Return the JSON Schema of a value of `field`; an entry has the `name` of what it stands in."""
    name = name or choices_name(field)
    if field.document is not None:
        return of_object(field.document, field.members, "read" if purpose == "read" else "create")
    if field.is_list and field.entry is not None:
        most = getattr(field.declared, "max_length", None)
        limits = {} if most is None else {"maxItems": most}
        least = {"minItems": 1} if field.is_required else {}
        return {"type": "array", "items": of_value(field.entry, purpose, name), **least, **limits}
    if field.is_map and field.entry is not None:
        return {"type": "object", "additionalProperties": of_value(field.entry, purpose, name)}
    made = validator(annotation(field)).json_schema() | told_limits(field.declared)
    return {"title": name, **made} if "enum" in made else made


NUMBER_FORMATS = {me.LongField: "int64", me.IntField: "int32", me.FloatField: "double"}


def number_format(declared: Any) -> Json:
    """Return how generated clients keep the number that a field is; without it they choose one that is too small."""
    return next(({"format": name} for kind, name in NUMBER_FORMATS.items() if isinstance(declared, kind)), {})


def told_limits(declared: Any) -> Json:
    """Return the limits of a field that its validator does not tell pydantic, as far as JSON Schema can say them."""
    told = {
        **number_format(declared),
        "maxLength": getattr(declared, "max_length", None) if isinstance(declared, me.StringField) else None,
        "minimum": declared.min_value if isinstance(declared, me.FloatField) else None,
        "maximum": declared.max_value if isinstance(declared, me.FloatField) else None,
    }
    pattern = getattr(declared, "regex", None)
    if pattern is not None and not pattern.flags & re.IGNORECASE:
        told["pattern"] = pattern.pattern
    return {name: value for name, value in told.items() if value is not None}
