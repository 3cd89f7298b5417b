"""Acting as an account: records in JSON form, as it may read and write them, for code that the team writes.

All that holds for a request of the account holds here: the same policy, the same validation, the same hooks.
"""

import secrets
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cached_property
from typing import Any

from service.core.errors import BadRequest, NotFound
from service.core.json_text import encode
from service.core.log import log
from service.documents import Account, Record
from service.documents.account import ALIVE
from service.model.patch import parse as parse_patch
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.mongo import driver
from service.policy import GROUP, HELD, Identity
from service.query.parse import LIMIT, Parser
from service.records.precondition import NONE, Precondition
from service.records.writing import Writer

RecordJson = dict[str, Any]
"""A record as clients have it."""


MOST_NOTED = 1000
"""Most records, and most accounts, of others that are noted: what may hold more of them cannot be kept for a retry."""


class ReadOfOthers:
    """What of others was told to the code that acts for an account: its answer may hold all of that.

    `records` are the ids of their records, by the type and by the account that has read them; `accounts` are those
    whose content it is, and those that have read it.
    """

    def __init__(self, account: str) -> None:
        self.account = account
        self.accounts: set[str] = set()
        self.records: dict[tuple[str, str], set[str]] = {}
        self.number = 0

    @property
    def is_any(self) -> bool:
        """Tell whether there is anything."""
        return bool(self.accounts or self.records)

    @property
    def is_too_much(self) -> bool:
        """Tell whether it is more than is noted."""
        return max(self.number, len(self.accounts)) > MOST_NOTED

    def note(self, type: RecordType, reader: str, record: RecordJson) -> None:
        """Note a record that was told to a reader, with the records that it was expanded by."""
        for name, expanded in record.get("expanded", {}).items():
            reference = type.references[name]
            for one in [expanded] if reference.place.is_single else expanded.values():
                if one is not None:
                    self.note_one(reference.target._get_collection_name(), reader, one)
        self.note_one(type.name, reader, record)

    def note_one(self, type: str, reader: str, record: RecordJson) -> None:
        """Note one record, or the public part of an account, which has no owner."""
        owner: str = record["owner"] if "owner" in record else record["id"]
        if owner == self.account or self.is_too_much:
            return
        self.accounts |= {one for one in (owner, reader) if one != self.account and not one.startswith(GROUP)}
        if "owner" in record:
            ids = self.records.setdefault((type, reader), set())
            self.number += record["id"] not in ids
            ids.add(record["id"])


class Acting:
    """An identity that acts, with the records of all types: what is deleted leaves a tombstone for `keep`.

    `work` is what it acts for, as the log tells it. `noted` is what of others it was told.
    """

    def __init__(
        self, registry: Registry, who: Identity, keep: timedelta, work: str, noted: ReadOfOthers | None = None
    ) -> None:
        self.registry, self.who, self.keep, self.work = registry, who, keep, work
        self.noted = ReadOfOthers(who.account) if noted is None else noted

    def records(self, document: type[Record]) -> "OwnRecords":
        """Return the records of a document class, as `who` may read and write them."""
        return OwnRecords(self, self.registry.of(document))

    def acting_for(self, account: str) -> "Acting":
        """Return the same as another account, by the authority of the code that says so; the log tells of it.

        Raises `NotFound` where there is no such account, or it goes.
        """
        who = identity_of(account)
        log.info("acting_for", work=self.work, account=self.who.account, acts_for=account)
        return Acting(self.registry, who, self.keep, self.work, self.noted)


def identity_of(account: str) -> Identity:
    """Return whom an account acts as at this moment. Raises `NotFound` where there is none, or it goes."""
    found = driver.find_one(Account._get_collection(), {"_id": account, **ALIVE}, HELD)
    if found is None:
        raise NotFound("there is no such account")
    return Identity.of(found)


class OwnRecords:
    """The records of one type as an identity may read and write them, in JSON form.

    Whatever a client would be told, `ValidationFailed`, `Forbidden`, `NotFound` and so on, is raised.
    """

    def __init__(self, acting: Acting, type: RecordType) -> None:
        self.acting, self.type = acting, type

    @property
    def writer(self) -> Writer:
        """What reads and writes them. Who has founded a group, or left one, is somebody else to groups from then on."""
        who = self.acting.who
        return Writer(self.acting.registry, self.type, identity_of(who.account) if self.type.is_group else who)

    def find(self, id: str) -> RecordJson | None:
        """Return the record with this id, None where there is none that may be read."""
        found = self.writer.find(id)
        return None if found is None else self.told(found)

    def each(
        self, where: Mapping[str, Any] | None = None, sort: str = "-updated_at", **others: str
    ) -> Iterator[RecordJson]:
        """Yield the records that a list would have, page by page: the same `where`, sorts and `others`, as `scope`.

        With `fields` each has its owner as well. What changes meanwhile may come twice or not at all, as with any list.
        Raises `BadQuery` and `BadParameter`.
        """
        asked = {"where": encode(where or {}).decode(), "sort": sort, "limit": str(LIMIT), **others}
        if "fields" in others:
            asked["fields"] += ",owner"
        cursor: str | None = None
        while True:
            last = {} if cursor is None else {"cursor": cursor}
            query = self.parser.parse({**asked, **last}, self.acting.who.account, self.key)
            writer = self.writer
            items, cursor = writer.told_carefully(writer.page(query), query)
            for item in items:
                self.note(item)
            yield from items
            if cursor is None:
                return

    def create(self, values: Mapping[str, Any]) -> RecordJson:
        """Store a new record, and return it."""
        return self.told(self.writer.create(self.type.schema.load({**values})))

    def change(self, id: str, patch: Mapping[str, Any], revision: int | None = None) -> RecordJson:
        """Apply a merge patch and update operators, if the record is at this `revision` where one is named."""
        precondition = NONE if revision is None else Precondition(match=(revision,))
        return self.told(self.writer.patch(id, parse_patch(self.type.schema, {**patch}), precondition))

    def put(self, id: str, values: Mapping[str, Any]) -> RecordJson:
        """Store a whole record under an id, as `PUT` does, and return it."""
        if values.get("id", id) != id:
            raise BadRequest("the id of the values is another")
        schema = self.type.schema
        own = {field.stored for name, field in schema.owner_only_fields.items() if name in values}
        return self.told(self.writer.put(id, schema.load({**values, "id": id}), own))

    def delete(self, id: str) -> None:
        """Delete a record, with what its delete rules ask for."""
        self.writer.delete(id, self.acting.keep)

    def told(self, record: Mapping[str, Any]) -> RecordJson:
        """Return a stored record in JSON form; raises `Unreadable`."""
        told: RecordJson = self.type.schema.dump(record)
        self.note(told)
        return told

    def note(self, record: RecordJson) -> None:
        """Note what of others the code is told by a record."""
        self.acting.noted.note(self.type, self.acting.who.account, record)

    @cached_property
    def parser(self) -> Parser:
        """What reads the conditions of lists."""
        return Parser(self.type)

    @cached_property
    def key(self) -> bytes:
        """What seals the cursors, which nobody else sees."""
        return secrets.token_bytes(32)
