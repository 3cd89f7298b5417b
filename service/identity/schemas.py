"""Accounts, sessions, events, members, invitations, identities and second factors as clients see them."""

from typing import Any

from service.documents import Account, Event, Invitation, Session
from service.documents.account import PUBLIC_FIELDS
from service.documents.group_member import GroupMember, GroupMembership
from service.model.schema import Schema
from service.model.values import time_text
from service.mongo.raw import Raw
from service.push.registrations import PLATFORMS

ACCOUNT = Schema(Account)
SESSION = Schema(Session)
EVENT = Schema(Event)
MEMBER = Schema(GroupMember)
OWN_MEMBERSHIP = Schema(GroupMembership)
INVITATION = Schema(Invitation)


def public_account(_config: Any = None) -> dict[str, Any]:
    """Return the JSON Schema of the public part of an account."""
    account = ACCOUNT.json_schema("read")
    properties = {name: account["properties"][name] for name in PUBLIC_FIELDS}
    return {**account, "title": "PublicAccount", "properties": properties, "required": list(PUBLIC_FIELDS)}


def listed(title: str, item: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of a list that comes whole."""
    properties = {"items": {"type": "array", "items": item}}
    return {"title": title, "type": "object", "properties": properties, "required": ["items"]}


IDENTITY_TEXTS = ("id", "provider", "issuer", "subject")
IDENTITY_TIMES = ("created_at", "last_used_at")


def linked_identity(_config: Any = None) -> dict[str, Any]:
    """Return the JSON Schema of a linked identity."""
    told = {"type": ["string", "null"], "description": "as the provider told it at the last sign-in"}
    properties: dict[str, Any] = {
        **{name: {"type": "string"} for name in IDENTITY_TEXTS},
        "email": told,
        **{name: {"type": "string", "format": "date-time"} for name in IDENTITY_TIMES},
    }
    return {
        "title": "LinkedIdentity",
        "type": "object",
        "description": "Somebody whom an OpenID provider knows, by whom the account can be entered.",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def dump_identity(identity: Raw) -> dict[str, Any]:
    """Return a stored linked identity as JSON has it."""
    texts = {name: identity[name] for name in IDENTITY_TEXTS}
    return {**texts, "email": identity.get("email"), **{name: time_text(identity[name]) for name in IDENTITY_TIMES}}


def second_factor(_config: Any = None) -> dict[str, Any]:
    """Return the JSON Schema of a second factor."""
    properties = {
        "created_at": {"type": "string", "format": "date-time"},
        "recovery_codes_left": {"type": "integer", "minimum": 0},
    }
    return {
        "title": "SecondFactor",
        "type": "object",
        "description": "An authenticator app, a code of which is asked for after any way in.",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def dump_second_factor(stored: Raw) -> dict[str, Any]:
    """Return a stored second factor as JSON has it, without anything that gets in."""
    return {"created_at": time_text(stored["created_at"]), "recovery_codes_left": len(stored["recovery_hashes"])}


def push_registration(_config: Any = None, with_token: bool = False) -> dict[str, Any]:
    """Return the JSON Schema of how a device is reached by notifications; in an export with its token."""
    properties: dict[str, Any] = {
        "platform": {"title": "PushPlatform", "type": "string", "enum": [*PLATFORMS]},
        "topics": {"type": "array", "items": {"type": "string"}},
        "language": {"type": ["string", "null"], "description": "a language tag (BCP 47)"},
        "registered_at": {"type": "string", "format": "date-time"},
    }
    properties |= {"token": {"type": "string"}} if with_token else {}
    return {
        "title": "ExportedPushRegistration" if with_token else "PushRegistration",
        "type": "object",
        "description": "Where notifications reach the device of a session.",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def dump_push(stored: Raw) -> dict[str, Any]:
    """Return a stored registration as JSON has it, without its token."""
    told = {"platform": stored["platform"], "topics": stored["topics"], "language": stored.get("language")}
    return {**told, "registered_at": time_text(stored["registered_at"])}


PASSKEY_TEXTS = ("id", "name")


def passkey(_config: Any = None) -> dict[str, Any]:
    """Return the JSON Schema of a passkey."""
    properties: dict[str, Any] = {
        **{name: {"type": "string"} for name in PASSKEY_TEXTS},
        **{name: {"type": "string", "format": "date-time"} for name in IDENTITY_TIMES},
    }
    return {
        "title": "Passkey",
        "type": "object",
        "description": "A key on somebody's devices by which the account can be entered.",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def dump_passkey(stored: Raw) -> dict[str, Any]:
    """Return a stored passkey as JSON has it."""
    return {
        **{name: stored[name] for name in PASSKEY_TEXTS},
        **{name: time_text(stored[name]) for name in IDENTITY_TIMES},
    }
