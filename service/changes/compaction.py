"""Compaction: what the order keeps of a record and of the memberships of an account, from what it kept before.

Nothing here asks MongoDB. A number (`seq`) is a place in the order.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.documents import Account
from service.mongo.raw import Filter, Raw
from service.policy import MEMBER, Identity, given_to, is_withdrawn, member_mark, owned_by, withdrawn

MOST_INTERVALS = 20
"""Most spans of time for which a membership is known exactly; the oldest of more become one."""
MEMBERSHIP = Account._get_collection_name()
"""The type of the changes of memberships; no record type has this name."""


def change_id(*steps: str) -> str:
    """Return the id of a change. A slash stands in no id of a record and in no principal."""
    return "/".join(steps)


def end_of_type(type: str) -> str:
    """Return what no id of a change of a type comes to, and the ids of all types behind it do: "0" follows "/"."""
    return f"{type}0"


def changes_of(type: str, ids: Sequence[str], told: Sequence[str], behind: int) -> Filter:
    """Return the filter of the changes of some records behind a number, with the withdrawals that go to marks `told`.

    All withdrawals of a record are found by no index: too many changes would pay for it.
    """
    seq = {"$gt": behind}
    # The number stands in both, for MongoDB plans the parts of an `$or` apart where nothing is beside it.
    withdrawals = {"marks": {"$in": told}, "type": type, "seq": seq, "record": {"$in": ids}}
    return {"$or": [{"_id": {"$in": [change_id(type, id) for id in ids]}, "seq": seq}, withdrawals]}


# --- Records ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecordState:
    """A record as the recorder finds it: its access list, empty where it is deleted, and its revision.

    `purge_at` is when its tombstone goes, None where it has none; `made` the access list with which it was made, if
    that happened a moment ago, and of a tombstone at least its owner: of one that has ended since its maker alone
    knows, who sent it. `founded` is the mark of who has founded a group that is there.
    """

    access: tuple[str, ...] = ()
    revision: int = 0
    purge_at: datetime | None = None
    made: tuple[str, ...] = ()
    founded: tuple[str, ...] = ()

    @classmethod
    def of(cls, record: Mapping[str, Any] | None, made: tuple[str, ...] = ()) -> "RecordState":
        """Return what is seen of a stored record; of None, of nothing."""
        if record is None:
            return cls(made=made)
        if "purge_at" in record:
            # Where its making was not seen, a gap has hidden it, and only a device of its owner can know of it.
            owner = (owned_by(record["owner"]),) if isinstance(record.get("owner"), str) else ()
            return cls((), record.get("revision", 0), record["purge_at"], made or owner)
        access = tuple(record.get("access", ()))
        heard = tuple(mark for mark in access if not is_withdrawn(mark))
        return cls(heard, record.get("revision", 0), None, made, tuple(filter(is_withdrawn, made or access)))

    @property
    def is_there(self) -> bool:
        """Whether somebody may read it."""
        return bool(self.access)


def is_recorded(seen: RecordState, previous: Mapping[str, Any] | None) -> bool:
    """Tell whether the change before tells all that there is to see."""
    if previous is None:
        return not seen.is_there and not seen.made
    if previous.get("gone"):
        return not seen.is_there
    return seen.is_there and seen.revision == previous["revision"] and set(seen.access) == set(previous["marks"])


def is_news(seen: RecordState, previous: Mapping[str, Any] | None) -> bool:
    """Tell whether an event can change what the order says: the end of what nobody can have cannot."""
    return seen.is_there or (bool(seen.made) if previous is None else not previous.get("gone"))


def of_record(
    type: str, id: str, seen: RecordState, previous: Mapping[str, Any] | None, seq: int, end: datetime
) -> Raw:
    """Return the change of a record at `seq`; `end` is when that of one without a tombstone is forgotten."""
    change = {"_id": change_id(type, id), "seq": seq, "type": type, "record": id}
    if not seen.is_there:
        if previous is None:
            kept: Raw = {"marks": list(seen.made), "since": [seq] * len(seen.made), "revision": seen.revision}
            kept["first"] = seq
        else:
            kept = {name: previous[name] for name in ("marks", "since", "revision")} | kept_first(previous)
        return {**change, **kept, "gone": True, "purge_at": seen.purge_at or end}
    since = since_by_mark(previous)
    numbers = [since.get(mark, seq) for mark in seen.access]
    first = {"first": seq} if previous is None or previous.get("gone") else kept_first(previous)
    return {**change, "marks": list(seen.access), "since": numbers, "revision": seen.revision, **first}


def kept_first(previous: Mapping[str, Any]) -> Raw:
    """Return at which number the record of a change came into the order, where that is known."""
    return {"first": previous["first"]} if "first" in previous else {}


def since_by_mark(change: Mapping[str, Any] | None) -> dict[str, int]:
    """Return at which number each mark came to a change; nothing for one of what is gone, or for none."""
    return {} if change is None or change.get("gone") else dict(zip(change["marks"], change["since"], strict=True))


def lost_marks(seen: RecordState, previous: Mapping[str, Any]) -> list[str]:
    """Return the marks of the change before that the record as it is now has not; one that is gone has lost none."""
    return [mark for mark in previous["marks"] if mark not in seen.access] if seen.is_there else []


def marks_apart(seen: RecordState, previous: Mapping[str, Any] | None) -> list[str]:
    """Return the marks of those who are told apart of how a record is: who has lost it, and who has founded it.

    The latter once, at its first change: before that they may have lost it again, and a device of theirs has it.
    """
    founded = seen.founded if previous is None or seen.made else ()
    return [*founded, *(lost_marks(seen, previous) if previous is not None else ())]


def withdrawal_id(type: str, id: str, mark: str) -> str:
    """Return the id of the change that tells those of a mark that a record was withdrawn from them."""
    return change_id(type, id, withdrawn(mark))


def of_withdrawal(
    type: str,
    id: str,
    mark: str,
    previous: Mapping[str, Any] | None,
    earlier: Mapping[str, Any] | None,
    seq: int,
    end: datetime,
) -> Raw:
    """Return the change at `seq` that tells those of a mark that they no longer may read a record, until `end`.

    `previous` is the record's change in which the mark still stood, if it did, `earlier` that of a withdrawal before.
    """
    known = zip(previous["marks"], previous["since"], strict=True) if previous else ()
    since = dict(known).get(mark, seq)
    if earlier is not None:
        since = min(since, earlier["since"][0])
    told = withdrawn(mark)
    return {
        "_id": change_id(type, id, told),
        "seq": seq,
        "type": type,
        "record": id,
        "marks": [told],
        "since": [since],
        "purge_at": end,
    }


# --- Memberships -----------------------------------------------------------------------------------------------------


def principals_of(account: Mapping[str, Any] | None) -> set[str]:
    """Return what a stored account is a member of: its roles and groups, none where it is gone."""
    if account is None or "deleted_at" in account:
        return set()
    return set(Identity.of(account).memberships)


def principal_of(membership: Mapping[str, Any]) -> str:
    """Return what the account of a change is, or was, a member of."""
    return str(membership["_id"].split("/", 2)[2])


def is_held(membership: Mapping[str, Any]) -> bool:
    """Tell whether a membership lasts."""
    return membership["held"][-1][1] is None


def changed_memberships(principals: set[str], previous: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what an account came to be a member of, or no longer is, since the changes before."""
    held = {principal_of(change) for change in previous if is_held(change)}
    return sorted(principals ^ held)


def of_membership(account: str, principal: str, previous: Mapping[str, Any] | None, seq: int, end: datetime) -> Raw:
    """Return the change of a membership that begins or ends at `seq`; of one that ends, until `end`."""
    held = [list(span) for span in previous["held"]] if previous else []
    if held and held[-1][1] is None:
        held[-1][1] = seq
    else:
        held.append([seq, None])
    if len(held) > MOST_INTERVALS:
        held[:2] = [[held[0][0], held[1][1]]]
    change = {
        "_id": change_id(MEMBERSHIP, account, principal),
        "seq": seq,
        "type": MEMBERSHIP,
        "record": account,
        "marks": [member_mark(account)],
        "since": [seq],
        "held": held,
    }
    return change if held[-1][1] is None else {**change, "purge_at": end}


# --- Who can have heard of it ----------------------------------------------------------------------------------------


def overlaps(spans: Sequence[Sequence[int | None]], begin: int, end: int | None) -> bool:
    """Tell whether one of the spans of numbers has something in common with that from `begin` to `end`."""
    return any(
        (end is None or first is None or first <= end) and (last is None or last >= begin) for first, last in spans
    )


def is_end(change: Mapping[str, Any]) -> bool:
    """Tell whether a change of a record is about its deletion or its withdrawal."""
    return bool(change.get("gone")) or "revision" not in change


def told_by(change: Mapping[str, Any], marks: Iterable[str]) -> Iterator[tuple[str, int, int | None]]:
    """Yield those of some marks by which a change is heard of, with the numbers from which to which they gave a right.

    That of a withdrawal ended where it stands, as did all of a record that is gone.
    """
    mine = set(marks)
    for mark, since in zip(change["marks"], change["since"], strict=True):
        if mark in mine and not mark.startswith(MEMBER):
            yield mark, since, change["seq"] if is_end(change) else None


def can_have_it(change: Mapping[str, Any], marks: Iterable[str], held: Mapping[str, Any], own: set[str]) -> bool:
    """Tell whether a client whose marks these are can have got the record of a change before it ended for it.

    `held` are the spans of the memberships of its account, by principal; a mark of its `own` needs none. So nobody
    hears of the end of what they never had a right to.
    """
    return any(
        mark in own or overlaps(held.get(mark[len(given_to("")) :], ()), begin, end)
        for mark, begin, end in told_by(change, marks)
    )
