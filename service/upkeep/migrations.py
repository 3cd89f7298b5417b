"""The table of migrations: how stored documents come to the form that this version of the service stores.

A class declares its form's number, `meta["version"]`. Whoever raises it adds the step to it here, at the end:

    Migration(Note, 2, "a pinned note is important", [{"$set": {…}}])

docs/upgrading.md says in which order servers and data go.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.documents import Account
from service.documents.versioned import Versioned

Stage = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of a document's stored form, from the version before to `to_version`.

    `stages` is an aggregation pipeline of an update (`$set`, `$unset`, `$replaceWith`): what it makes of a document
    hangs on that document alone. It meets documents that servers of both versions have written, and may meet one again,
    so it has to leave what is new already as it is. `seen=True` says that clients see the difference: what changes
    gets a new revision and `updated_at`, so that apps fetch it again.
    """

    document: type[Versioned]
    to_version: int
    description: str
    stages: Sequence[Stage] = ()
    seen: bool = False

    def pipeline(self) -> list[Stage]:
        """Return the update of one document of the version before."""
        stamp: list[Stage] = [{"$set": {"schema_version": self.to_version}}, {"$unset": "oldest_writer"}]
        return [*(self.noticed() if self.seen else self.stages), *stamp]

    def noticed(self) -> list[Stage]:
        """Return the stages, and a new revision of what they change."""
        before = "before_migration"
        same = {"$eq": [{"$unsetField": {"field": before, "input": "$$ROOT"}}, f"${before}"]}
        stamps = {"revision": {"$add": ["$revision", 1]}, "updated_at": "$$NOW"}
        changed = {
            name: {"$cond": [same, f"${name}", value]}
            for name, value in stamps.items()
            if name in self.document._fields
        }
        return [{"$set": {before: "$$ROOT"}}, *self.stages, {"$set": changed}, {"$unset": before}]


def versioned(documents: Sequence[type[Versioned]]) -> list[type[Versioned]]:
    """Return every document class whose stored form has a version: accounts, and those of the record types."""
    return [Account, *documents]


IS_VERIFIED: Stage = {"$eq": ["$email_verified", True]}
IS_ASCII: Stage = {"$regexMatch": {"input": {"$ifNull": ["$email", ""]}, "regex": r"^[\x00-\x7f]+$"}}
HAS_KEY: Stage = {"$ne": [{"$type": "$email_key"}, "missing"]}
KEYED_ADDRESSES: list[Stage] = [
    # MongoDB cannot bring a domain into its ASCII form: the owner of such an address verifies it once more.
    {"$set": {"email_verified": {"$and": [IS_VERIFIED, {"$or": [HAS_KEY, IS_ASCII]}]}}},
    {"$set": {"email_key": {"$cond": [IS_VERIFIED, {"$ifNull": ["$email_key", {"$toLower": "$email"}]}, "$$REMOVE"]}}},
]
"""A server of version 1 takes verification back when the address changes, and leaves the key of the one before."""

MIGRATIONS: list[Migration] = [
    Migration(Account, 2, "a verified address belongs to one account", KEYED_ADDRESSES),
]
"""The steps to version 2 and further, each document's in their order."""


def steps(document: type[Versioned]) -> list[Migration]:
    """Return the migrations of a document class in their order; the first gives what has no version number one."""
    first = Migration(document, 1, "carry the version of their form")
    return [first, *(migration for migration in MIGRATIONS if migration.document is document)]


def every_step(documents: Sequence[type[Versioned]]) -> list[Migration]:
    """Return the migrations of all document classes."""
    return [migration for document in versioned(documents) for migration in steps(document)]


def check_steps(documents: Sequence[type[Versioned]]) -> None:
    """Raise `ValueError` where the steps of a document class are not 1, 2, … up to its declared version."""
    for document in versioned(documents):
        found, version = [step.to_version for step in steps(document)], document.version()
        if found != list(range(1, version + 1)):
            raise ValueError(
                f'{document.__name__} has `meta["version"]` {version}, '
                f"but service/upkeep/migrations.py has steps to {found}"
            )
