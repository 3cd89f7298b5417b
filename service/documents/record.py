"""The document that every record type inherits: who owns it, who may see it, and the one door for writes."""

import secrets
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from mongoengine import DateTimeField, IntField, ListField, StringField
from mongoengine.base import BaseField
from pymongo.collection import Collection

from service.documents.versioned import STAMPS, Versioned
from service.mongo import driver
from service.mongo.driver import Raw as Raw

PRINCIPAL = r"^(\*|role:[A-Za-z0-9._-]{1,40}|[A-Za-z0-9._-]{1,64})$"
# In a path, dots alone are no name: a client that resolves `/v1/notes/..` would ask for something else.
ID = r"^(?!\.+$)[A-Za-z0-9_.-]{1,64}$"


def now() -> datetime:
    """Return the time in UTC with milliseconds, without a zone: what MongoDB stores and PyMongo gives back."""
    moment = datetime.now(UTC).replace(tzinfo=None)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


RANDOM_BITS = 52
STEP_BITS = 40

newest = 0
"""The last id that this process made."""


def new_id() -> str:
    """Return an id that no server has made before, that sorts by time, and that nobody can foresee.

    24 hexadecimal digits: seconds, milliseconds, and 52 random bits. What a process makes within a millisecond stays in
    order: each is a random step beyond the last.
    """
    global newest  # of two threads at once each takes a step of its own
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    moment = seconds << 12 | rest // 1_000_000
    # What can be foreseen can be taken: ids are chosen by clients too, and the owner of the next one would get 409.
    if moment > newest >> RANDOM_BITS:
        made = moment << RANDOM_BITS | secrets.randbits(RANDOM_BITS)
    else:
        made = newest + 1 + secrets.randbits(STEP_BITS)
    newest = made
    return f"{made:024x}"


def access(owner: str, readers: Iterable[str], writers: Iterable[str]) -> list[str]:
    """Return the hidden list of all who may read: `o:` and the owner, `r:` and each that it was given to."""
    return [f"o:{owner}", *(f"r:{principal}" for principal in sorted({*readers, *writers}))]


class Record(Versioned):
    """App data of one account, at `/v1/<collection>`.

    A record type inherits this and says in its `meta`: `collection`; `sorts`, each a field name or several with
    commas, `-` in front for descending; `filters`, the fields that `where` may name; `search`, the text fields that
    full-text search reads. The index of each sort follows from it.

    A field takes these arguments beside MongoEngine's own: `read_only=True`, the server sets it and a client may not;
    `fixed=True`, a client says it once, at creation; `hidden=True`, no client sees it; `owner_only=True`, only the
    owner of the record may write it; `help_text`, what the API documentation says of it.
    """

    id = StringField(primary_key=True, regex=ID, max_length=64, help_text="chosen by the client, or made by the server")
    owner = StringField(required=True, read_only=True, help_text="account id")
    readers = ListField(
        StringField(regex=PRINCIPAL),
        max_length=100,
        owner_only=True,
        help_text="who may read: account ids, `role:<name>`, or `*` for everyone signed in",
    )
    writers = ListField(
        StringField(regex=PRINCIPAL),
        max_length=100,
        owner_only=True,
        help_text="who may read and write, listed as in `readers`",
    )
    created_at = DateTimeField(required=True, read_only=True)
    updated_at = DateTimeField(required=True, read_only=True)
    revision = IntField(required=True, read_only=True, min_value=1, help_text="1 at creation, +1 on every write")

    # One list holds all who may read, marked by how they came to it, so that a single index per sort serves the own,
    # the shared and the public records alike. A compound index takes one list, so `readers` and `tags` could not share.
    access = ListField(StringField(), hidden=True)
    # A deleted record leaves a tombstone: its id, revision and owner, and when it goes.
    purge_at = DateTimeField(hidden=True)

    meta = {
        "abstract": True,
        "auto_create_index": False,
        "indexes": [{"fields": ["purge_at"], "expireAfterSeconds": 0, "sparse": True}],
        "sorts": ["updated_at", "-updated_at", "created_at", "-created_at"],
        "filters": ["id", "owner", "created_at", "updated_at", "revision"],
        "search": [],
    }

    @classmethod
    def stored(cls) -> Collection[Raw]:
        """Return the PyMongo collection: what is on the request path reads and writes it without hydration."""
        collection: Collection[Raw] = cls._get_collection()
        return collection

    @classmethod
    def insert(cls, owner: str, content: Mapping[str, Any]) -> Raw:
        """Store a new record of `owner` with `content` in BSON form and return it.

        Raises `pymongo.errors.DuplicateKeyError` when its `_id` is taken.
        """
        record = cls.stamped(owner, content)
        driver.insert(cls.stored(), record)
        return record

    @classmethod
    def stamped(cls, owner: str, content: Mapping[str, Any]) -> Raw:
        """Return `content` as a whole new record."""
        moment = now()
        record = {
            "_id": content.get("_id") or new_id(),
            **content,
            "owner": owner,
            "created_at": moment,
            "updated_at": moment,
            "revision": 1,
            "access": access(owner, content.get("readers", ()), content.get("writers", ())),
        }
        return cls.new(record)

    @classmethod
    def change(
        cls, condition: Mapping[str, Any], update: Mapping[str, Mapping[str, Any]], upsert: bool = False
    ) -> Raw | None:
        """Apply the MongoDB `update` to the one record that fulfils `condition`, and return it as it then is.

        Returns None, and changes nothing, when there is none. Every write of a record that is there goes through here.
        """
        return driver.change(cls.stored(), condition, cls.written(update), upsert)

    @classmethod
    def written(cls, update: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
        """Return the MongoDB `update` of a record that is there, with the stamps of any write."""
        stamped = {
            **update,
            "$set": {**update.get("$set", {}), "updated_at": now()},
            "$inc": {**update.get("$inc", {}), "revision": 1},
        }
        return super().written(stamped)

    @classmethod
    def rewrite(cls, condition: Mapping[str, Any], content: Mapping[str, Any], owner: str) -> Raw | None:
        """Give the one record that fulfils `condition` the whole new `content`, and return it as it then is.

        Returns None, and changes nothing, when there is none.
        """
        shared = access(owner, content.get("readers", ()), content.get("writers", ()))
        return cls.change(condition, cls.replacement({**content, "access": shared}))

    @classmethod
    def put(cls, condition: Mapping[str, Any], content: Mapping[str, Any], owner: str) -> Raw:
        """Replace the content of the record that fulfils `condition` but not its sharing; make it if there is none.

        Raises `pymongo.errors.DuplicateKeyError` when the id belongs to a record that does not fulfil `condition`.
        """
        sharing = {"readers", "writers"}
        update = cls.replacement({name: value for name, value in content.items() if name not in sharing}, sharing)
        update["$set"].pop("access", None)
        first = {"owner": owner, "created_at": now(), "readers": [], "writers": [], "access": access(owner, (), ())}
        record = cls.change(condition, {**update, "$setOnInsert": cls.new(first)}, upsert=True)
        assert record is not None  # noqa: S101  an upsert always has a document to return
        return record

    @classmethod
    def replacement(cls, content: Mapping[str, Any], kept: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
        """Return the update that leaves of a record's content only `content`, and what is `kept` or the server's."""
        ours = {field.db_field for field in cls._fields.values() if not is_clients(field)} | SERVER_FIELDS
        gone = [field.db_field for field in cls._fields.values() if field.db_field not in {*ours, *kept, *content}]
        update = {"$set": {name: value for name, value in content.items() if name not in ours or name == "access"}}
        return {**update, "$unset": dict.fromkeys(gone, "")} if gone else update

    @classmethod
    def bury(cls, condition: Mapping[str, Any], keep: timedelta) -> bool:
        """Leave of the one record that fulfils `condition` a tombstone for `keep`; False when there is none."""
        # The names of all fields are known, so one update without a read leaves nothing of the content.
        stays = {*SERVER_FIELDS, "purge_at"}
        gone = [field.db_field for field in cls._fields.values() if field.db_field not in stays]
        update: dict[str, dict[str, Any]] = {"$unset": dict.fromkeys(gone, ""), "$set": {"purge_at": now() + keep}}
        tombstone = cls.change(condition, update)
        if tombstone is None:
            return False
        if unknown := tombstone.keys() - stays:
            # What a newer server has stored, running beside this one: it goes as well.
            buried = {"_id": tombstone["_id"], "purge_at": {"$exists": True}}
            cls.stored().update_one(buried, {"$unset": dict.fromkeys(unknown, "")})
        return True


def is_clients(field: BaseField) -> bool:
    """Tell whether a client writes `field`."""
    return not getattr(field, "hidden", False) and not getattr(field, "read_only", False)


SERVER_FIELDS = frozenset({"_id", "owner", "created_at", "updated_at", "revision"}) | STAMPS
