"""Convergence of devices that write, of WatermelonDB and RxDB as their clients work, and of some that follow live."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

import orjson
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from service.changes import order, reader
from service.changes.rxdb_pull import NO_RECORD, parse_rxdb_pull
from service.changes.watermelon_pull import parse_watermelon_pull
from service.core.errors import FeedUnavailable
from service.documents import AwaitedReference, Change, Correction, Note, PushReceipt
from service.policy import Identity
from service.streams import live
from tests.client import Person
from tests.streaming import Exchange, Served
from tests.syncing import Json
from tests.test_changes_model import IDS, PATIENCE, PEOPLE, RUNS, Model, Phone, late_order, prepared, run
from tests.types import REGISTRY
from tests.waiting import until

pytestmark = pytest.mark.real

TEXTS = st.sampled_from(["x", "y", ""])
LOST = st.sampled_from(["no", "no", "no", "before", "after"])
NUMBERS = st.integers(0, 2)
COLUMNS = ("title", "priority", "owner", "revision")
"""What a device of WatermelonDB has of a note."""


class Unanswered(Exception):
    """An answer did not come, or was that the feed is not so far: the device tries again another time."""


class Device:
    """A session of somebody's, and what they have on one device."""

    def __init__(self, model: SyncModel, name: str) -> None:
        self.model, self.name = model, name
        owner = model.people[name]
        self.person = Person(owner.client)
        self.person.username, self.person.id = owner.username, owner.id
        self.person.log_in()

    @property
    def identity(self) -> Identity:
        identity: Identity = self.model.app.extensions["madang.security"].identify(self.person.headers["Authorization"])
        return identity

    def asked(self, path: str, parameters: Json, late: bool) -> Json:
        """The answer of a pull; of one that is `late` the order was looked at before the last writes."""
        if not late:
            answer = self.person.get(path, query_string=parameters)
            if answer.status_code == 503:
                raise Unanswered
            assert answer.status_code == 200, answer.json
            return dict(answer.json)
        try:
            return dict(orjson.loads(b"".join(self.pieces({name: str(value) for name, value in parameters.items()}))))
        except FeedUnavailable:
            raise Unanswered from None

    def sync(self, lost_pull: str = "no", lost_push: str = "no", late: bool = False) -> None:
        self.pull(lost_pull, late)
        self.push(lost_push)

    def pull(self, lost: str, late: bool) -> None:
        raise NotImplementedError

    def push(self, lost: str) -> None:
        raise NotImplementedError

    def pieces(self, parameters: dict[str, str]) -> Any:
        raise NotImplementedError

    def sent(self, path: str, body: Any, lost: str) -> Any:
        """The answer of a push, None where the device has to pull first; it may be lost on the way there or back."""
        if lost == "before":
            raise Unanswered
        answer = self.person.post(path, body)
        assert answer.status_code in (200, 409), answer.json
        if lost == "after":
            raise Unanswered
        return answer.json if answer.status_code == 200 else None


class WatermelonDevice(Device):
    """A device of WatermelonDB (its `src/sync/impl`): rows with what is changed of them."""

    PATH = "/v1/sync/watermelondb"

    def __init__(self, model: SyncModel, name: str) -> None:
        super().__init__(model, name)
        self.rows: dict[str, Json] = {}
        self.deleted: set[str] = set()
        self.timestamp: int | None = None

    def make(self, id: str, text: str) -> None:
        if id not in self.rows and id not in self.deleted:
            self.rows[id] = {"id": id, "_status": "created", "_changed": "", "title": text, "priority": 0}

    def change(self, id: str, text: str) -> None:
        row = self.rows.get(id)
        if row is None:
            return
        if row["_status"] == "created":
            self.rows[id] = {**row, "title": text}
        else:
            changed = ",".join(sorted({*filter(None, row["_changed"].split(",")), "title"}))
            self.rows[id] = {**row, "title": text, "_status": "updated", "_changed": changed}

    def remove(self, id: str) -> None:
        row = self.rows.pop(id, None)
        # What was never sent is gone at once.
        if row is not None and row["_status"] != "created":
            self.deleted.add(id)

    def pull(self, lost: str, late: bool) -> None:
        known = {"last_pulled_at": "null" if self.timestamp is None else self.timestamp, "tables": "notes"}
        answer = self.asked(self.PATH, known, late)
        if lost != "no":
            raise Unanswered
        notes = answer["changes"]["notes"]
        for row in (*notes["created"], *notes["updated"]):
            self.take(row)
        for id in notes["deleted"]:
            self.rows.pop(id, None)
            self.deleted.discard(id)
        self.timestamp = answer["timestamp"]

    def take(self, row: Json) -> None:
        """Take a row over but for the columns that were changed here."""
        if row["id"] in self.deleted:
            return
        local, row = self.rows.get(row["id"], {}), {"id": row["id"], **{name: row[name] for name in COLUMNS}}
        changed = local.get("_changed", "")
        kept = {name: local[name] for name in changed.split(",") if name}
        status = "updated" if local.get("_status", "synced") != "synced" else "synced"
        self.rows[row["id"]] = {**row, **kept, "_status": status, "_changed": changed}

    def push(self, lost: str) -> None:
        kinds = ("created", "updated")
        notes: Json = {kind: [row for row in self.rows.values() if row["_status"] == kind] for kind in kinds}
        notes["deleted"] = sorted(self.deleted)
        if not any(notes.values()):
            return
        if self.sent(f"{self.PATH}?last_pulled_at={self.timestamp}", {"notes": notes}, lost) is None:
            raise Unanswered
        self.rows = {id: {**row, "_status": "synced", "_changed": ""} for id, row in self.rows.items()}
        self.deleted = set()

    def pieces(self, parameters: dict[str, str]) -> Any:
        return parse_watermelon_pull(REGISTRY, parameters, self.person.id).pieces(late_order())

    def check(self, listed: dict[str, Json]) -> None:
        assert not self.deleted
        due = {id: {"id": id, **{name: record[name] for name in COLUMNS}} for id, record in listed.items()}
        assert self.rows == {id: {**row, "_status": "synced", "_changed": ""} for id, row in due.items()}


class RxdbDevice(Device):
    """A collection of RxDB with its replication (its `replication-protocol`): documents, and what the server has."""

    PATH = "/v1/sync/rxdb/notes/0"
    BATCH = 2

    def __init__(self, model: SyncModel, name: str) -> None:
        super().__init__(model, name)
        self.documents: dict[str, Json] = {}
        self.assumed: dict[str, Json] = {}
        self.checkpoint: Json = {"id": "", "lwt": 0}

    def make(self, id: str, text: str) -> None:
        if self.documents.get(id, {"_deleted": True})["_deleted"]:
            self.documents[id] = {"id": id, "title": text, "_deleted": False}

    def change(self, id: str, text: str) -> None:
        if not self.documents.get(id, {"_deleted": True})["_deleted"]:
            self.documents[id] = {**self.documents[id], "title": text}

    def remove(self, id: str) -> None:
        if id in self.documents:
            self.documents[id] = {**self.documents[id], "_deleted": True}

    def is_changed(self, id: str) -> bool:
        return self.documents.get(id) != self.assumed.get(id)

    def pull(self, lost: str, late: bool) -> None:
        full = True
        while full:
            parameters = {**self.checkpoint, "limit": self.BATCH}
            answer = self.asked(f"{self.PATH}/pull", parameters, late)
            if lost == "before":
                raise Unanswered
            for document in answer["documents"]:
                self.take(document)
            if lost == "after":
                raise Unanswered
            if answer["documents"]:
                self.checkpoint = answer["checkpoint"]
            full = len(answer["documents"]) >= self.BATCH

    def take(self, document: Json) -> None:
        """Take a document over, unless it was changed here: that is for the push to find out."""
        id = document["id"]
        if id in self.assumed and self.is_changed(id):
            return
        self.documents[id] = self.assumed[id] = document

    def push(self, lost: str) -> None:
        for _ in range(10):
            changed = [id for id in self.documents if self.is_changed(id)]
            if not changed:
                return
            self.push_some(changed[: self.BATCH], lost)
        raise AssertionError([(self.documents[id], self.assumed.get(id)) for id in changed])

    def push_some(self, ids: list[str], lost: str) -> None:
        rows = [
            {"newDocumentState": self.documents[id]}
            | ({"assumedMasterState": self.assumed[id]} if id in self.assumed else {})
            for id in ids
        ]
        conflicts = self.sent(f"{self.PATH}/push", rows, lost)
        assert conflicts is not None
        for id in ids:
            self.assumed[id] = self.documents[id]
        for document in conflicts:
            assert document["id"] in ids
            self.documents[document["id"]] = self.assumed[document["id"]] = document

    def pieces(self, parameters: dict[str, str]) -> Any:
        key = self.model.app.extensions["madang.security"].cursor_key
        return parse_rxdb_pull(REGISTRY["notes"], parameters, self.identity, key).pieces(late_order())

    def check(self, listed: dict[str, Json]) -> None:
        has = {id: one for id, one in self.documents.items() if not one["_deleted"] and id != NO_RECORD}
        assert has == {id: {**record, "_deleted": False} for id, record in listed.items()}


class LiveDevice(Device):
    """A device that pulls once, and follows `/v1/live` from there on; its connections are lost at any time."""

    def __init__(self, model: SyncModel, name: str, title: str | None = None) -> None:
        super().__init__(model, name)
        self.title = title
        self.has: dict[str, Json] = {}
        self.cursor: str | None = None
        self.is_pulled = False
        self.exchange: Exchange | None = None
        self.read = 0

    def connect(self, with_an_old_place: bool) -> None:
        """Open a connection from where it is, or from a place that nobody knows any more."""
        if self.exchange is not None:
            return
        if self.cursor is None:
            self.pull_all()
        where = {} if self.title is None else {"title": self.title}
        last = "of-another-key" if with_an_old_place else str(self.cursor)
        subscribe = orjson.dumps({"notes": where}).decode()
        named = {**self.person.headers, "Last_Event_ID": last}
        exchange = self.model.streams.begin("GET", "/v1/live", {"subscribe": subscribe}, **named)
        until(lambda: exchange.messages or exchange.done.done())
        if exchange.messages[0]["status"] == 503:
            raise Unanswered
        assert exchange.messages[0]["status"] == 200, exchange.messages
        self.exchange, self.read = exchange, 0

    def take(self, most: int | None = None) -> None:
        """Take what has come, or the first of it; then pull, where it was told to."""
        if self.exchange is None:
            return
        text = b"".join(message.get("body", b"") for message in [*self.exchange.messages]).decode()
        blocks = text.split("\n\n")[:-1]
        end = len(blocks) if most is None else min(len(blocks), self.read + most)
        for block in blocks[self.read : end]:
            self.hear(dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":")))
        self.read = end
        if not self.is_pulled:
            self.pull_all()

    def hear(self, event: dict[str, str]) -> None:
        self.cursor = event.get("id", self.cursor)
        if event.get("event") == "resync":
            type(self.model).resyncs += 1
            self.has, self.is_pulled = {}, False
        elif event.get("event") == "change":
            self.put(orjson.loads(event["data"]))

    def put(self, item: Json) -> None:
        if "gone" in item:
            self.has.pop(item["id"], None)
            return
        self.model.look()
        assert item["id"] in self.model.could_read[self.name]
        if self.title in (None, item["record"]["title"]):
            self.has[item["id"]] = item["record"]
        else:
            self.has.pop(item["id"], None)

    def pull_all(self) -> None:
        """Pull from the beginning. Where it follows already, its place there stays."""
        cursor, more = None, True
        while more:
            named = {"types": "notes", "limit": 2} | ({"cursor": cursor} if cursor else {})
            answer = self.asked("/v1/changes", named, late=False)
            for item in answer["items"]:
                self.put(item)
            cursor, more = answer["cursor"], answer["more"]
        self.is_pulled = True
        self.cursor = self.cursor or cursor

    def lose(self, most: int) -> None:
        """Lose the connection, with all that came after the first of what is not read."""
        with suppress(Unanswered):
            self.take(most)
        if self.exchange is not None:
            self.exchange.hang_up()
        self.exchange = None

    def is_right(self, listed: dict[str, Json]) -> bool:
        """Whether it has what a list shows, once it has taken all that came."""
        with suppress(Unanswered):
            self.connect(False)
            self.take()
        return self.has == {id: one for id, one in listed.items() if self.title in (None, one["title"])}


class SyncModel(Model):
    """The model of changes, with devices of both libraries that write, and accounts that go."""

    gone: ClassVar[int] = 0
    resyncs: ClassVar[int] = 0
    serve: ClassVar[Any]

    @initialize()
    def begin(self) -> None:
        for document in (Correction, PushReceipt, AwaitedReference):
            document._get_collection().delete_many({})
        super().begin()
        self.serving = type(self).serve()
        self.streams: Served = self.serving.__enter__()
        self.followers = [LiveDevice(self, "ada"), LiveDevice(self, "bob"), LiveDevice(self, "cat", "x")]
        self.devices: list[Device] = [
            WatermelonDevice(self, "ada"),
            WatermelonDevice(self, "bob"),
            WatermelonDevice(self, "cat"),
        ]
        self.replicas: list[Device] = [RxdbDevice(self, "ada"), RxdbDevice(self, "bob"), RxdbDevice(self, "cat")]

    @rule(id=IDS)
    def erase_by_another_program(self, id: str) -> None:
        """But not where a gap has hidden that a device made it: nobody can tell it of that, as docs/changes.md says."""
        state = order.lease_document()["state"]  # type: ignore[index]
        is_hidden = state["token"] == self.lost or state["comparing"] is not None
        if not is_hidden or Change._get_collection().find_one({"_id": f"notes/{id}"}):
            Note._get_collection().delete_one({"_id": id})

    @rule(number=NUMBERS, id=IDS, text=TEXTS)
    def make_in_watermelon(self, number: int, id: str, text: str) -> None:
        self.devices[number].make(id, text)

    @rule(number=NUMBERS, id=IDS, text=TEXTS)
    def change_in_watermelon(self, number: int, id: str, text: str) -> None:
        self.devices[number].change(id, text)

    @rule(number=NUMBERS, id=IDS)
    def delete_in_watermelon(self, number: int, id: str) -> None:
        self.devices[number].remove(id)

    @rule(number=NUMBERS, lost_pull=LOST, lost_push=LOST, late=st.booleans())
    def sync_watermelon(self, number: int, lost_pull: str, lost_push: str, late: bool) -> None:
        self.try_to(lambda: self.devices[number].sync(lost_pull, lost_push, late))

    @rule(number=NUMBERS, id=IDS, text=TEXTS)
    def make_in_rxdb(self, number: int, id: str, text: str) -> None:
        self.replicas[number].make(id, text)

    @rule(number=NUMBERS, id=IDS, text=TEXTS)
    def change_in_rxdb(self, number: int, id: str, text: str) -> None:
        self.replicas[number].change(id, text)

    @rule(number=NUMBERS, id=IDS)
    def delete_in_rxdb(self, number: int, id: str) -> None:
        self.replicas[number].remove(id)

    @rule(number=NUMBERS, lost_pull=LOST, lost_push=LOST, late=st.booleans())
    def sync_rxdb(self, number: int, lost_pull: str, lost_push: str, late: bool) -> None:
        self.try_to(lambda: self.replicas[number].sync(lost_pull, lost_push, late))

    @rule(number=NUMBERS, with_an_old_place=st.sampled_from([False, False, True]))
    def follow(self, number: int, with_an_old_place: bool) -> None:
        self.try_to(lambda: self.followers[number].connect(with_an_old_place))

    @rule(number=NUMBERS)
    def hear(self, number: int) -> None:
        self.try_to(self.followers[number].take)

    @rule(number=NUMBERS, most=st.integers(0, 4))
    def lose_connection(self, number: int, most: int) -> None:
        self.followers[number].lose(most)

    @rule(name=PEOPLE)
    def leave(self, name: str) -> None:
        """Delete an account; somebody with a new one takes over its name in the model, and its devices."""
        assert self.people[name].delete("/v1/accounts/me").status_code == 204
        type(self).gone += 1
        self.people[name] = Person.sign_up(self.app.test_client(), f"{name}{type(self).gone}")
        self.could_read[name] = set()
        self.phones = [
            Phone(name, phone.limit, phone.types) if phone.person == name else phone for phone in self.phones
        ]
        self.devices = [WatermelonDevice(self, name) if one.name == name else one for one in self.devices]
        self.replicas = [RxdbDevice(self, name) if one.name == name else one for one in self.replicas]
        for one in self.followers:
            if one.name == name:
                one.lose(0)
        self.followers = [LiveDevice(self, name, one.title) if one.name == name else one for one in self.followers]

    def try_to(self, sync: Callable[[], None]) -> None:
        with suppress(Unanswered):
            sync()
        self.look()

    def sync_for_certain(self, device: Device) -> None:
        """Sync a device as an app does: where the push is refused because of what others did, from the pull on."""
        for _ in range(3):
            self.recordings[-1].catch_up()
            with suppress(Unanswered):
                return device.sync()
        raise AssertionError(device.__dict__)

    def converge(self) -> None:
        self.app.extensions["madang.barrier"].patience = PATIENCE
        for _ in range(3):
            for device in (*self.devices, *self.replicas):
                self.sync_for_certain(device)
        super().converge()
        for device in (*self.devices, *self.replicas):
            listed = device.person.get("/v1/notes?limit=100").json["items"]
            device.check({record["id"]: record for record in listed})
        self.followers[0].lose(1)
        self.try_to(lambda: self.followers[0].connect(with_an_old_place=True))
        for follower in self.followers:
            listed = follower.person.get("/v1/notes?limit=100").json["items"]
            due = {record["id"]: record for record in listed}
            until(lambda follower=follower, due=due: follower.is_right(due))

    def close(self) -> None:
        for follower in self.followers:
            follower.lose(0)
        self.serving.__exit__(None, None, None)
        super().close()


@pytest.fixture
def model(make_app: Any, test_settings: dict[str, Any], serve: Any, monkeypatch: pytest.MonkeyPatch) -> type[SyncModel]:
    monkeypatch.setattr(reader, "AWAITED_MS", 20)
    monkeypatch.setattr(live, "FIRST_ITEMS", 1)
    found = prepared(SyncModel, make_app, test_settings, monkeypatch)
    found.serve = staticmethod(serve)
    return found


def test_devices_that_write_converge(model: type[SyncModel]) -> None:
    run(model, RUNS // 2)
    assert model.resyncs
