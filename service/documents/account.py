"""Accounts: who can log in."""

from collections.abc import Mapping
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from email_validator import EmailNotValidError, validate_email
from mongoengine import (
    BooleanField,
    DateTimeField,
    DictField,
    EmailField,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    ListField,
    LongField,
    StringField,
)

from service.core.clock import now
from service.core.ids import new_id
from service.core.normal_forms import normalized
from service.documents.linked_identity import LinkedIdentity
from service.documents.passkey import Passkey
from service.documents.second_factor import SecondFactor
from service.documents.versioned import Versioned

ALIVE = {"deleted_at": {"$exists": False}}
"""The filter of accounts that are not being deleted."""
NOT_LOCKED = {"locked_at": {"$exists": False}}
"""The filter of accounts that may log in."""
NOT_MERGED = {"merged_into": {"$exists": False}}
"""The filter of accounts that do not become a part of another one: nobody acts for what does."""
USERNAME = r"^[A-Za-z0-9._-]{3,40}$"
LOCALE = r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"
"""A language tag (BCP 47), whose subtags are of these letters and lengths (RFC 5646, section 2.1)."""


@cache
def time_zones() -> frozenset[str]:
    """Return the names of the time zones that IANA's database has here; without `localtime`, which is a machine's."""
    return frozenset(name for name in available_timezones() if name != "localtime" and not name.startswith("posix"))


def known_time_zone(name: str) -> None:
    """Raise `ValueError` for what is no name of a time zone."""
    if name not in time_zones():
        raise ValueError("a time zone of IANA's database such as Asia/Seoul")


def address_key(address: str) -> str:
    """Return what is the same for all spellings of an e-mail address, by capitals and Unicode; a verified one has it.

    The domain is in its ASCII form (RFC 5891): two that look alike are two. Raises `ValueError` for what is no address.
    """
    try:
        found = validate_email(address, check_deliverability=False)
    except EmailNotValidError as error:
        raise ValueError("it is no e-mail address") from error
    return f"{normalized('NFKD', found.local_part.casefold())}@{found.ascii_domain.lower()}"


class Account(Versioned):
    """A person or a program that logs in: with a username or a verified address and a password, or by a code."""

    id = StringField(primary_key=True, default=new_id, read_only=True)
    # None of an account that was made by a code.
    username = StringField(fixed=True, regex=USERNAME, help_text="3 to 40 of A-Z a-z 0-9 . _ -")
    display_name = StringField(max_length=100)
    email = EmailField(max_length=254, allow_utf8_user=True)
    email_verified = BooleanField(default=False, read_only=True)
    locale = StringField(max_length=35, regex=LOCALE, help_text="a language tag (BCP 47) such as ko-KR")
    time_zone = StringField(max_length=64, validation=known_time_zone, help_text="a time zone such as Asia/Seoul")
    roles = ListField(StringField(regex=r"^[A-Za-z0-9._-]{1,40}$"), read_only=True)
    created_at = DateTimeField(default=now, required=True, read_only=True)
    updated_at = DateTimeField(default=now, required=True, read_only=True)

    # The username in lower case: unique without regard to case, for sign-up and login.
    username_key = StringField(hidden=True, unique=True, sparse=True)
    # The verified address by `address_key`: it belongs to one account. An address that is not verified has none.
    email_key = StringField(hidden=True, unique=True, sparse=True)
    # That key where mails to it come back: a person who runs the service says so. Another address is not meant by it.
    email_bounced = StringField(hidden=True)
    # There is none while the person has no password: they sign in by code, or by a provider.
    password_hash = StringField(hidden=True)
    # The providers by which the account can be entered, in the order in which they were linked.
    identities = EmbeddedDocumentListField(LinkedIdentity, hidden=True)
    passkeys = EmbeddedDocumentListField(Passkey, hidden=True)
    # What is asked for after any of these; there is none while it is off.
    second_factor = EmbeddedDocumentField(SecondFactor, hidden=True)
    locked_at = DateTimeField(hidden=True)
    last_login_at = DateTimeField(hidden=True)
    # How often it has acted on accounts as an admin: each time is a write that one who takes its role meets.
    admin_acts = LongField(hidden=True)
    # What it is a member of: the id of each `group`, its `role` there, and `since` when.
    groups = ListField(DictField(), hidden=True)
    # When a guest was seen last, as far as was looked; who has a name or an address, or is let in by others, is none.
    guest_seen_at = DateTimeField(hidden=True)
    # Set when all that a guest has is becoming another account's: whose, since when, and by which session it was asked.
    merged_into = StringField(hidden=True)
    merged_at = DateTimeField(hidden=True)
    merged_session = StringField(hidden=True)
    # Bytes that its files take, and those that may come of uploads that are under way.
    storage_bytes = LongField(hidden=True)
    # Set when the account is being deleted: nothing of it is left then but what `deletion.sweep` still has to do.
    deleted_at = DateTimeField(hidden=True)

    meta = {
        "collection": "accounts",
        "version": 2,
        "auto_create_index": False,
        "indexes": [
            {"fields": ["deleted_at"], "sparse": True},
            {"fields": ["guest_seen_at"], "sparse": True},
            {"fields": ["merged_into"], "sparse": True},
            {"fields": ["groups.group"], "sparse": True},
            {"fields": ["roles"], "sparse": True},
            {"fields": ["identities.key"], "unique": True, "sparse": True},
            {"fields": ["passkeys.key"], "unique": True, "sparse": True},
        ],
    }


PUBLIC_FIELDS = ("id", "username", "display_name")
"""What everybody signed in may know of an account."""


def public(account: Mapping[str, Any]) -> dict[str, Any]:
    """Return the public part of a stored account as JSON has it."""
    return {"id": account["_id"], **{name: account.get(name) for name in PUBLIC_FIELDS[1:]}}
