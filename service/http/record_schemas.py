"""The schemas of what a record type answers beside the record itself: a view, a page, the export."""

from service.documents.account import Account
from service.identity.schemas import (
    ACCOUNT,
    INVITATION,
    OWN_MEMBERSHIP,
    linked_identity,
    passkey,
    public_account,
    push_registration,
    second_factor,
)
from service.model.json_schema import Json, title_of
from service.model.record_type import RecordType, Reference
from service.model.registry import Registry


def of_view(registry: Registry, record: RecordType) -> Json:
    """Return the JSON Schema of a record as `fields` and `expand` let it come: in part, with what it refers to."""
    whole, name = record.schema.json_schema("read"), title_of(record.document)
    made = {**whole, "title": f"{name}View", "required": ["id"]}
    if not record.references:
        return made
    expanded = {
        "title": f"{name}Expanded",
        "type": "object",
        "description": "What `expand` asks for, null where it is gone or may not be read; what is unset is not here.",
        "properties": {path: of_target(registry, reference) for path, reference in record.references.items()},
        "additionalProperties": False,
    }
    return {**made, "properties": {**whole["properties"], "expanded": expanded}}


def of_target(registry: Registry, reference: Reference) -> Json:
    """Return the JSON Schema of what a reference is expanded to."""
    is_account = reference.target is Account
    record = public_account() if is_account else registry.of(reference.target).schema.json_schema("read")
    target = {"anyOf": [record, {"type": "null"}]}
    if reference.place.is_single:
        return target
    return {"type": "object", "description": "by id", "additionalProperties": target}


def of_everything(registry: Registry) -> Json:
    """Return the JSON Schema of all that the service has of an account."""
    records = {name: {"type": "array", "items": type.schema.json_schema("read")} for name, type in registry.items()}
    memberships = {"type": "array", "items": OWN_MEMBERSHIP.json_schema("read")}
    properties = {"account": ACCOUNT.json_schema("read"), "memberships": memberships, **records}
    return {
        "title": "AccountExport",
        "type": "object",
        "description": "An account, what it is a member of, and all that it owns.",
        "properties": {
            **properties,
            "identities": {"type": "array", "items": linked_identity(), "description": "left out where there is none"},
            "invitations": {
                "type": "array",
                "items": INVITATION.json_schema("read"),
                "description": "those that it has made; left out where there is none",
            },
            "passkeys": {"type": "array", "items": passkey(), "description": "left out where there is none"},
            "push": {
                "type": "array",
                "items": push_registration(with_token=True),
                "description": "where its devices are reached; left out where there is none",
            },
            "second_factor": second_factor(),
        },
        "required": list(properties),
        "additionalProperties": False,
    }


def of_page(title: str, item: Json) -> Json:
    """Return the JSON Schema of a page of `item`s."""
    return {
        "title": title,
        "type": "object",
        "description": "Some of a list.",
        "properties": {
            "items": {"type": "array", "items": item},
            "next": {"type": ["string", "null"], "description": "cursor of the next page, null on the last"},
            "total": {"type": "integer", "description": "how many there are in all, with `count=true`"},
            "total_at_least": {"type": "integer", "description": "in its place where they are more than this"},
        },
        "required": ["items", "next"],
        "additionalProperties": False,
    }


def of_changes(registry: Registry) -> Json:
    """Return the JSON Schema of what has changed for an account."""
    return {
        "title": "ChangePage",
        "type": "object",
        "description": "What has changed for an account since a cursor.",
        "properties": {
            "items": {"type": "array", "items": of_change(registry)},
            "cursor": {"type": "string", "description": "where the next answer begins"},
            "more": {"type": "boolean", "description": "whether there is more now"},
        },
        "required": ["items", "cursor", "more"],
        "additionalProperties": False,
    }


def of_change(registry: Registry) -> Json:
    """Return the JSON Schema of a change of a record.

    It is no choice of one schema for each type: some generators cannot write that down, and others make a client of it
    that fails on a whole page where a newer server has one type more. So which record it is stands in conditions.
    """
    return {
        "title": "Change",
        "type": "object",
        "description": "A record as it is now, or, without one, why it is gone.",
        "properties": {
            "type": {"type": "string", "description": "its collection", "x-extensible-enum": list(registry)},
            "id": {"type": "string"},
            "revision": {"type": "integer"},
            "record": {"type": "object", "description": "the record, as its type has it", "additionalProperties": {}},
            "gone": {"type": "string", "description": "why it is gone", "x-extensible-enum": ["deleted", "withdrawn"]},
        },
        "required": ["type", "id"],
        "additionalProperties": False,
        **record_by_type(list(registry.items())),
    }


def record_by_type(types: list[tuple[str, RecordType]]) -> Json:
    """Return the condition that the record of a change is one of its type."""
    if not types:
        return {}
    (name, type), *rest = types
    record = {"properties": {"record": type.schema.json_schema("read")}}
    return {"if": {"properties": {"type": {"const": name}}}, "then": record, "else": record_by_type(rest)}
