"""What `after_change` of a record type is told."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from service.documents.record import Record

ChangeKind = Literal["created", "changed", "deleted"]


@dataclass(frozen=True, slots=True)
class RecordChange:
    """A record that has changed, as it is now: `record` is None where it was deleted.

    `kind` is `created` until the hook has taken the record for the first time. `seq` is the number of the change in the
    order: the same one may come again. `owner` is the account that the record belongs to, or did; None where not even
    its tombstone is left. `acting_for` gives the records as an account may read and write them (`records/acting.py`).
    """

    type: str
    id: str
    kind: ChangeKind
    revision: int
    owner: str | None
    seq: int
    record: Record | None
    acting_for: Callable[[str], Any]
