"""Accounts: who can log in."""

from collections.abc import Mapping
from typing import Any

from mongoengine import BooleanField, DateTimeField, EmailField, ListField, StringField

from service.core.clock import now
from service.core.ids import new_id
from service.documents.versioned import Versioned

ALIVE = {"deleted_at": {"$exists": False}}
"""The filter of accounts that are not being deleted."""
NOT_LOCKED = {"locked_at": {"$exists": False}}
"""The filter of accounts that may log in."""
USERNAME = r"^[A-Za-z0-9._-]{3,40}$"


class Account(Versioned):
    """A person or a program that logs in with a username and a password."""

    id = StringField(primary_key=True, default=new_id, read_only=True)
    username = StringField(required=True, fixed=True, regex=USERNAME, help_text="3 to 40 of A-Z a-z 0-9 . _ -")
    display_name = StringField(max_length=100)
    email = EmailField(max_length=254)
    email_verified = BooleanField(default=False, read_only=True)
    roles = ListField(StringField(regex=r"^[A-Za-z0-9._-]{1,40}$"), read_only=True)
    created_at = DateTimeField(default=now, required=True, read_only=True)
    updated_at = DateTimeField(default=now, required=True, read_only=True)

    # The username in lower case: unique without regard to case, for sign-up and login.
    username_key = StringField(hidden=True, unique=True, sparse=True)
    password_hash = StringField(hidden=True)
    locked_at = DateTimeField(hidden=True)
    last_login_at = DateTimeField(hidden=True)
    # Set when the account is being deleted: nothing of it is left then but what `deletion.sweep` still has to do.
    deleted_at = DateTimeField(hidden=True)

    meta = {
        "collection": "accounts",
        "auto_create_index": False,
        "indexes": [{"fields": ["deleted_at"], "sparse": True}],
    }


PUBLIC_FIELDS = ("id", "username", "display_name")
"""What everybody signed in may know of an account."""


def public(account: Mapping[str, Any]) -> dict[str, Any]:
    """Return the public part of a stored account as JSON has it."""
    return {"id": account["_id"], **{name: account.get(name) for name in PUBLIC_FIELDS[1:]}}
