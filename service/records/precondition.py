"""What a client says that a record has to be, or must not be, for its request to be done (RFC 9110, section 13.1)."""

from dataclasses import dataclass
from typing import Literal

from service.core.errors import RevisionMismatch
from service.mongo.raw import Filter

Tags = Literal["*"] | tuple[int, ...]
"""Revisions, or any at all."""


@dataclass(frozen=True, slots=True)
class Precondition:
    """The revisions of `If-Match` and of `If-None-Match`; None where a header was not sent."""

    match: Tags | None = None
    none_match: Tags | None = None

    @property
    def condition(self) -> Filter:
        """The filter of a record that is there and fulfils it; of no record where none can."""
        if self.none_match == "*":
            return {"revision": {"$in": []}}
        named: Filter = {}
        if self.match is not None and self.match != "*":
            named["$in"] = list(self.match)
        if self.none_match is not None:
            named["$nin"] = list(self.none_match)
        return {"revision": named} if named else {}

    def check(self, revision: int) -> None:
        """Raise `RevisionMismatch` where the record that is there, at this revision, does not fulfil it."""
        self.check_match(revision)
        if self.none_match is not None and names(self.none_match, revision):
            raise RevisionMismatch(f"the record is at revision {revision}")

    def check_match(self, revision: int) -> None:
        """Raise `RevisionMismatch` where `If-Match` names other revisions."""
        if self.match is not None and not names(self.match, revision):
            raise RevisionMismatch(f"the record is at revision {revision}")

    def check_absent(self) -> None:
        """Raise `RevisionMismatch` where there is no record and one has to be."""
        if self.match is not None:
            raise RevisionMismatch("there is no such record")


NONE = Precondition()


def names(tags: Tags, revision: int) -> bool:
    """Tell whether a revision is among those named."""
    return tags == "*" or revision in tags
