"""What every document carries that is stored for long: the version of its stored form."""

from collections.abc import Mapping
from typing import Any

from mongoengine import Document, IntField


class Versioned(Document):
    """A document that outlives the version of the service that stored it.

    `meta["version"]` is the number of the form that this service stores, 1 at first; `service/upkeep/migrations.py`
    says how stored documents come to a higher one. A stored document without `schema_version` is of version 0.
    """

    # The form that it was stored in, or brought to by a migration.
    schema_version = IntField(hidden=True)
    # The lowest version that wrote to it since. An older server does not keep up what only a newer one knows, so what
    # it touched is brought to the new form once more. One number for both would not do: a newer server's first write to
    # a document without a number would pass for its migration.
    oldest_writer = IntField(hidden=True)

    # Not strict: what a newer server has stored is read without what only that one knows.
    meta: dict[str, Any] = {"abstract": True, "version": 1, "strict": False}

    @classmethod
    def version(cls) -> int:
        """Return the number of the form that this service stores."""
        return int(cls._meta["version"])

    @classmethod
    def new(cls, content: Mapping[str, Any]) -> dict[str, Any]:
        """Return the stored form of a new document: `content` with the version of its form."""
        return {**content, "schema_version": cls.version()}

    @classmethod
    def written(cls, update: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
        """Return the MongoDB `update` of a document that is there, with the version of who writes."""
        return {**update, "$min": {**update.get("$min", {}), "oldest_writer": cls.version()}}


STAMPS = frozenset({"schema_version", "oldest_writer"})
"""The stored names of the two numbers."""
