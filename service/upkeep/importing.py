"""An import: an existing collection becomes records, batch by batch, beside a running service, again after a crash.

Nothing is kept of how far it came. What is there is passed over, so a second run goes on where the first was cut short,
takes up what was mended in the source since, and its report is about all of it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from typing import Any

from pymongo.errors import DuplicateKeyError

from service.core.errors import Cause, Problem, TooLarge, ValidationFailed
from service.model.record_type import Reference
from service.model.registry import Registry
from service.model.unique import Unique
from service.mongo import transactions
from service.mongo.raw import Raw
from service.policy import entries
from service.records import people, references, store
from service.records.bulk import unique_values
from service.upkeep import indexes, upgrade, wording
from service.upkeep.source import Found, ImportRefused, ImportSource
from service.upkeep.takeover import Candidate, Fate, Plan, is_there, is_too_large
from service.upkeep.walk import insist, rested

DOCUMENTS_AT_ONCE = 500
"""Most documents that are looked at together."""
AGAIN_AT_ONCE = 50
"""Most that are read by their ids, which nothing else keeps from filling the memory."""
TRANSACTION_SECONDS = 60.0
"""How long one batch may take as a transaction."""
SAID: dict[Fate, Cause] = {
    "differs": Cause("differs", "another record is there, or it was changed since: it stays as it is", pointer=""),
    "deleted": Cause("deleted", "the record was deleted: it stays so", pointer=""),
}
Told = Callable[[Candidate, Fate], None]


@dataclass(frozen=True, slots=True)
class Counts:
    """How far an import has come: how many documents came to what."""

    read: int = 0
    imported: int = 0
    there: int = 0
    differs: int = 0
    deleted: int = 0
    refused: int = 0
    finished: bool = False


class TrialEnded(Exception):
    """A transaction that was only a trial has done all that it should."""


class NotStored(Exception):
    """Of a transaction, some of the records are not stored: why, by id."""

    def __init__(self, why: dict[str, Exception]) -> None:
        super().__init__()
        self.why = why


class Import:
    """An import that runs. `tell` hears of each document that is not imported and not there already."""

    def __init__(self, registry: Registry, plan: Plan, source: ImportSource, dry: bool, tell: Told) -> None:
        self.registry, self.plan, self.source, self.dry, self.tell = registry, plan, source, dry, tell
        self.type = plan.type
        self.counts = Counts()
        # What refers to records of its own type may come before these.
        self.looks_back = any(one.target is self.type.document for one in self.type.references.values())
        self.waiting: list[Any] = []
        self.is_last_round = not self.looks_back
        # Those of this batch that may be stored already, for MongoDB did not say.
        self.tried: set[str] = set()
        # Of a dry run: the access lists of what would be there, and the unique values that it would have.
        self.would_be: dict[str, list[str]] = {}
        self.would_have: dict[bytes, str] = {}

    def check(self) -> None:
        """Raise `ImportRefused` where it cannot begin."""
        name = self.type.name
        if self.source.is_that_of(self.type.collection):
            raise ImportRefused(
                f"{name} is where the records are kept, and a source is only read. Give the old collection another "
                f'name first, in mongosh: db.{name}.renameCollection("{name}_before"), then: --from {name}_before'
            )
        missing = [str(one) for one in indexes.changes(self.registry) if one.kind == "missing"]
        if any(f" {name}." in one for one in missing):
            raise ImportRefused(f"indexes of {name} are missing: run `flask indexes make` first")

    def run(self, most: int = DOCUMENTS_AT_ONCE, rest: float = 0.0, patience: float = 60.0) -> Iterator[Counts]:
        """Import all documents, and yield how far that has come.

        After each batch it rests, `rest` times as long as the batch took. When MongoDB does not answer it tries again
        for `patience` seconds, and raises `PyMongoError` then.
        """
        if not self.dry:
            # Then these records have the form and the words of today, and no migration has to walk through them.
            upgrade.mark_empty(self.registry)
            wording.mark_empty(self.registry)
        last: Raw | None = None
        while rows := insist(lambda: self.source.read(last, most), patience):  # noqa: B023  called before the next turn
            with rested(rest):
                self.bring(rows, patience)
                last = rows[-1].document
                self.counts = replace(self.counts, read=self.counts.read + len(rows))
                yield self.counts
        yield from self.look_again(patience)
        yield replace(self.counts, finished=True)

    def look_again(self, patience: float) -> Iterator[Counts]:
        """Look again at what refers to records that were not there yet, for as long as some of it can be imported."""
        while waiting := self.waiting:
            before, self.waiting = self.counts.imported, []
            for begin in range(0, len(waiting), AGAIN_AT_ONCE):
                ids = waiting[begin : begin + AGAIN_AT_ONCE]
                self.bring(insist(lambda: self.source.read_again(ids), patience), patience)  # noqa: B023  as above
                yield self.counts
            self.is_last_round = self.counts.imported == before

    def bring(self, rows: Sequence[Found], patience: float) -> None:
        """Import some documents, and count what came of each."""
        self.tried.clear()
        results = insist(lambda: self.batch(rows), patience)
        found = Counter(outcome for _, outcome in results)
        self.counts = replace(
            self.counts, **{name: getattr(self.counts, name) + number for name, number in found.items()}
        )
        for candidate, outcome in results:
            if outcome in SAID:
                candidate.causes.append(SAID[outcome])
            if outcome not in ("imported", "there"):
                self.tell(candidate, outcome)

    def batch(self, rows: Sequence[Found]) -> list[tuple[Candidate, Fate]]:
        """Import some documents; return what came of each, but of those that wait for others."""
        candidates = [self.plan.candidate(row) for row in rows]
        self.plan.owners(candidates)
        self.refuse_twins([one for one in candidates if not one.causes])
        results: dict[Candidate, Fate] = {one: "refused" for one in candidates if one.causes}
        results |= self.known([one for one in candidates if one not in results])
        waiting = [one for one in candidates if one not in results]
        while waiting:
            missing = self.missing(waiting)
            ready = [one for one in waiting if one not in missing]
            if not ready:
                self.postpone(missing, results)
                break
            results |= self.put(ready)
            waiting = [one for one in waiting if one in missing]
        return list(results.items())

    def refuse_twins(self, candidates: Sequence[Candidate]) -> None:
        """Refuse what would have the id of another document, which has the same as text."""
        texts = self.source.texts_among([one.id for one in candidates if not isinstance(one.source_id, str)])
        for one in candidates:
            if one.id in texts and not isinstance(one.source_id, str):
                one.causes.append(Cause("not_unique", "an id that no other document has as text", pointer="/_id"))

    def known(self, candidates: Sequence[Candidate]) -> dict[Candidate, Fate]:
        """Return what is to be said of those whose id a record has, or had."""
        ids = [one.id for one in candidates]
        there = {row["_id"]: row for row in self.type.collection.find({"_id": {"$in": ids}}, self.type.unread)}
        return {one: self.beside(one, there[one.id]) for one in candidates if one.id in there}

    def beside(self, candidate: Candidate, record: Raw) -> Fate:
        """Return what is to be said of a document whose id a record has, or had."""
        if "purge_at" in record:
            return "deleted"
        if not is_there(self.type, candidate, record):
            return "differs"
        return "imported" if candidate.id in self.tried else "there"

    # --- References --------------------------------------------------------------------------------------------------

    def missing(self, candidates: Sequence[Candidate]) -> dict[Candidate, list[Cause]]:
        """Return those that refer to what is not there, or what their owner may not read, with the causes."""
        if not self.type.references:
            return {}
        named = {one: references.named_targets(self.type, one.content, {}) for one in candidates}
        targets: dict[Any, set[str]] = {}
        for of_one in named.values():
            for target, pointed in of_one.items():
                targets.setdefault(target, set()).update(id for _, id in pointed)
        there = {target: self.access_lists(target, ids) for target, ids in targets.items()}
        found = {}
        for one, of_one in named.items():
            mine = frozenset(entries(one.owner)) if one.owner else frozenset()
            causes = [
                self.plan.in_source(references.missing(target, place))
                for target, pointed in of_one.items()
                for place, id in pointed
                if mine.isdisjoint(there[target].get(id, ()))
            ]
            if causes:
                found[one] = causes
        return found

    def access_lists(self, target: Any, ids: set[str]) -> dict[str, list[str]]:
        """Return who may read what is referred to, by id; of what is not there nobody."""
        found = references.access_lists(self.registry, target, ids)
        if target is self.type.document:
            found |= {id: self.would_be[id] for id in ids & self.would_be.keys()}
        return found

    def postpone(self, missing: dict[Candidate, list[Cause]], results: dict[Candidate, Fate]) -> None:
        """Refuse what refers to what is not there; what may come yet is looked at again."""
        for one, causes in missing.items():
            if self.is_last_round:
                one.causes += causes
                results[one] = "refused"
            else:
                self.waiting.append(one.source_id)

    # --- Storing -----------------------------------------------------------------------------------------------------

    def put(self, candidates: Sequence[Candidate]) -> dict[Candidate, Fate]:
        """Store the records of some documents, and return what came of each."""
        records = {one: one.record(self.type) for one in candidates}
        why: dict[str, Exception] = {
            one.id: TooLarge("less: MongoDB has no room for it") for one in records if is_too_large(records[one])
        }
        why |= self.taken(records.values()) if self.dry else {}
        why |= self.store({one.id: record for one, record in records.items() if one.id not in why})
        results = {one: self.judged(one, why.get(one.id)) for one in candidates}
        results |= {} if self.dry else self.ownerless([one for one, fate in results.items() if fate == "imported"])
        if self.dry:
            self.remember([records[one] for one, outcome in results.items() if outcome == "imported"])
        return results

    def taken(self, records: Iterable[Raw]) -> dict[str, Exception]:
        """Return which records would have the unique values of those that a dry run has left behind."""
        found: dict[str, Exception] = {}
        for record in records:
            for unique, key in self.unique_keys(record):
                if self.would_have.get(key, record["_id"]) != record["_id"]:
                    found[record["_id"]] = unique.problem()
        return found

    def remember(self, records: Iterable[Raw]) -> None:
        """Remember what a dry run would have stored, as far as it is in the way of others, or others point to it."""
        for record in records:
            if self.looks_back:
                self.would_be[record["_id"]] = record["access"]
            self.would_have |= {key: record["_id"] for _, key in self.unique_keys(record)}

    def unique_keys(self, record: Raw) -> Iterator[tuple[Unique, bytes]]:
        """Yield what of a record no other may have, in few bytes."""
        for number, unique in enumerate(self.type.uniques):
            if (values := unique_values(unique, record)) is not None:
                yield unique, blake2b(values, digest_size=16, salt=bytes([number])).digest()

    def ownerless(self, stored: Sequence[Candidate]) -> dict[Candidate, Fate]:
        """Remove again what was stored for accounts that have gone meanwhile; who goes from now on takes it along."""
        living = people.living({one.owner.account for one in stored if one.owner})
        gone = [one for one in stored if one.owner and one.owner.account not in living]
        if gone:
            store.erase(self.type, [one.id for one in gone])
        return {one: self.plan.without_owner(one) for one in gone}

    def judged(self, candidate: Candidate, why: Exception | None) -> Fate:
        """Return what came of one, of which MongoDB said `why` it is not stored, or nothing."""
        if why is None:
            return "imported"
        if isinstance(why, DuplicateKeyError):
            # Somebody else has stored it meanwhile.
            self.tried.discard(candidate.id)
            return self.known([candidate]).get(candidate, "differs")
        if not isinstance(why, Problem):
            raise why
        candidate.causes += [self.plan.in_source(cause) for cause in why.causes] or [
            Cause(why.code, why.detail, pointer="")
        ]
        return "refused"

    def store(self, records: dict[str, Raw]) -> dict[str, Exception]:
        """Store records, each by itself or together with a write to what they refer to; return why some are not."""
        if not records:
            return {}
        if not self.dry and not self.registry.holding(self.type):
            self.tried |= records.keys()
            return store.take_over(self.type, list(records.values()))
        why: dict[str, Exception] = {}
        while left := {id: record for id, record in records.items() if id not in why}:
            if not self.dry:
                self.tried |= left.keys()
            try:
                transactions.run(partial(self.together, left), TRANSACTION_SECONDS)
                break
            except TrialEnded:
                break
            except NotStored as refused:
                why |= refused.why
        return why

    def together(self, records: dict[str, Raw]) -> None:
        """Store records as a part of a transaction, which ends at the first that MongoDB refuses."""
        for reference in () if self.dry else self.registry.holding(self.type):
            ids = {id for record in records.values() for _, id in reference.place.stored_values(record)}
            if gone := ids - references.access_lists(self.registry, reference.target, ids).keys():
                raise NotStored(pointing_to(gone, reference, records))
            store.touch(self.registry.of(reference.target), sorted(ids))
        if why := store.take_over(self.type, list(records.values()), together=True):
            raise NotStored(why)
        if self.dry:
            raise TrialEnded


def pointing_to(gone: set[str], reference: Reference, records: Mapping[str, Raw]) -> dict[str, Exception]:
    """Return which records refer to what has gone since it was looked at, with the problem of each."""
    found: dict[str, Exception] = {}
    for id, record in records.items():
        places = [place for place, target in reference.place.stored_values(record) if target in gone]
        if places:
            found[id] = ValidationFailed(references.missing(reference.target, place) for place in places)
    return found
