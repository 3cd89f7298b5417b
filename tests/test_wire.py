"""The short way to MongoDB: the usual thing goes it, and whatever is unusual is done by PyMongo, once."""

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from bson import InvalidDocument
from flask import Flask
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError, PyMongoError

from service.documents import Note
from service.mongo import transactions, wire
from tests.client import Person

pytestmark = pytest.mark.real


@pytest.fixture
def notes(app: Flask) -> Collection[Any]:
    collection = Note.stored()
    collection.insert_one({"_id": "a", "n": 0})
    return collection


def refuse(*_args: Any, **_kwargs: Any) -> Any:
    raise AssertionError("PyMongo is asked")


@pytest.fixture
def without_pymongo(monkeypatch: pytest.MonkeyPatch, notes: Collection[Any]) -> None:
    for name in ("find", "find_one_and_update", "insert_one"):
        monkeypatch.setattr(Collection, name, refuse)


@pytest.mark.usefixtures("without_pymongo")
def test_the_usual_thing_does_without_pymongos_layers(notes: Collection[Any]) -> None:
    wire.insert(notes, {"_id": "b", "n": 1})
    assert wire.change(notes, {"_id": "b"}, {"$inc": {"n": 1}}) == {"_id": "b", "n": 2}
    assert wire.change(notes, {"_id": "c"}, {"$set": {"n": 0}}, upsert=True) == {"_id": "c", "n": 0}
    assert wire.change(notes, {"_id": "d"}, {"$set": {"n": 0}}) is None
    assert wire.find_one(notes, {"_id": "d"}) is None
    assert wire.find_one(notes, {"_id": "b"}, {"n": 0}) == {"_id": "b"}
    rows = wire.find(notes, {"n": {"$lt": 2}}, sort=[("_id", -1)], limit=2, hint=[("_id", 1)])
    assert [row["_id"] for row in rows] == ["c", "a"]


@pytest.mark.usefixtures("without_pymongo")
def test_a_page_larger_than_one_reply_is_whole(notes: Collection[Any]) -> None:
    for number in range(5):
        wire.insert(notes, {"_id": f"large-{number}", "n": 9, "text": "x" * 5_000_000})
    assert len(wire.find(notes, {"n": 9}, limit=5)) == 5


def lost(
    monkeypatch: pytest.MonkeyPatch, times: int = 1, error: Callable[[], Exception] = ConnectionResetError
) -> list[int]:
    """Let the answers to the next commands get lost after MongoDB has sent them; return how often it happened."""
    real, done = wire.received, []

    def received(*args: Any) -> Any:
        answer = real(*args)
        if len(done) < times:
            done.append(1)
            raise error()
        return answer

    monkeypatch.setattr(wire, "received", received)
    return done


def test_a_change_whose_answer_is_lost_is_done_once(monkeypatch: pytest.MonkeyPatch, notes: Collection[Any]) -> None:
    done = lost(monkeypatch)
    assert wire.change(notes, {"_id": "a"}, {"$inc": {"n": 1}}) == {"_id": "a", "n": 1}
    assert done
    assert notes.find_one({"_id": "a"}) == {"_id": "a", "n": 1}


def test_a_new_document_whose_answer_is_lost_is_stored_once(
    monkeypatch: pytest.MonkeyPatch, notes: Collection[Any]
) -> None:
    done = lost(monkeypatch)
    wire.insert(notes, {"_id": "b"})
    assert done
    assert notes.count_documents({"_id": "b"}) == 1


def test_a_read_whose_answer_is_lost_is_read_again(monkeypatch: pytest.MonkeyPatch, notes: Collection[Any]) -> None:
    done = lost(monkeypatch)
    assert wire.find_one(notes, {"_id": "a"}) == {"_id": "a", "n": 0}
    assert done


def test_an_answer_that_comes_late_is_not_taken_for_the_next(
    monkeypatch: pytest.MonkeyPatch, notes: Collection[Any]
) -> None:
    real = wire.received

    def too_late(*_args: Any) -> Any:
        raise TimeoutError("nothing is read")

    monkeypatch.setattr(wire, "received", too_late)
    assert wire.find_one(notes, {"_id": "a"}) == {"_id": "a", "n": 0}
    monkeypatch.setattr(wire, "received", real)
    notes.insert_one({"_id": "b"})
    assert [wire.find_one(notes, {"_id": id}) for id in ("b", "a")]  # noqa: A001 == [{"_id": "b"}, {"_id": "a", "n": 0}]


def test_connections_that_broke_unseen_are_replaced(notes: Collection[Any]) -> None:
    wire.find_one(notes, {"_id": "a"})
    for connection in notes.database.client._topology.select_server(lambda s: s, "test").pool.conns:
        connection.conn.sock.shutdown(socket.SHUT_RDWR)
    assert wire.change(notes, {"_id": "a"}, {"$inc": {"n": 1}}) == {"_id": "a", "n": 1}


def test_what_mongodb_refuses_is_told_as_pymongo_tells_it(notes: Collection[Any]) -> None:
    with pytest.raises(DuplicateKeyError):
        wire.insert(notes, {"_id": "a"})
    with pytest.raises(PyMongoError, match="hint provided does not correspond"):
        wire.find(notes, {}, hint=[("nothing", 1)])
    with pytest.raises(InvalidDocument):
        wire.insert(notes, {"_id": "b", "n": object()})
    assert wire.find_one(notes, {"_id": "a"}) == {"_id": "a", "n": 0}


def test_the_number_of_a_refused_write_is_not_used_again(notes: Collection[Any]) -> None:
    for _ in range(3):
        with pytest.raises(DuplicateKeyError):
            wire.insert(notes, {"_id": "a"})
        assert wire.change(notes, {"_id": "a"}, {"$inc": {"n": 1}})
    assert notes.find_one({"_id": "a"}) == {"_id": "a", "n": 3}


def test_a_transaction_sees_and_undoes_what_is_done_in_it(notes: Collection[Any]) -> None:
    def work() -> None:
        wire.insert(notes, {"_id": "b"})
        assert wire.find_one(notes, {"_id": "b"})
        assert transactions.outside(wire.find_one, notes, {"_id": "b"}) is None
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        transactions.run(work, 5)
    assert wire.find_one(notes, {"_id": "b"}) is None


def test_a_message_that_is_no_answer_is_refused() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(wire.HEAD.pack(wire.HEAD.size, 1, 7, wire.OP_MSG, 0, 0))
        with pytest.raises(OSError, match="not the answer"):
            wire.received(here, 8, 1e12)
        there.sendall(wire.HEAD.pack(wire.HEAD.size, 1, 8, wire.OP_MSG, 0, 0)[:9])
        there.close()
        with pytest.raises(OSError, match="closed"):
            wire.received(here, 8, 1e12)


def test_an_answer_in_pieces_is_put_together() -> None:
    here, there = socket.socketpair()
    with here, there:
        body = bytes(range(256)) * 300
        whole = wire.HEAD.pack(wire.HEAD.size + len(body), 1, 8, wire.OP_MSG, 0, 0) + body
        for start in range(0, len(whole), 10_000):
            there.sendall(whole[start : start + 10_000])
        assert bytes(wire.received(here, 8, 1e12)) == body


def test_a_person_s_change_whose_answer_is_lost_is_answered(monkeypatch: pytest.MonkeyPatch, ada: Person) -> None:
    note = ada.make_note(priority=1)
    done = lost(monkeypatch)
    answer = ada.patch(f"/v1/notes/{note['id']}", {"$inc": {"priority": 1}})
    assert done
    assert (answer.status_code, answer.json["priority"], answer.json["revision"]) == (200, 2, 2)


@pytest.mark.parametrize("option", ["readConcernLevel=majority", "retryWrites=false", "timeoutMS=0"])
def test_what_a_uri_asks_for_beyond_the_usual_is_left_to_pymongo(mongodb_uri: str, option: str) -> None:
    client: Any = wire.pymongo.MongoClient(mongodb_uri + f"&{option}", timeoutMS=None if "timeout" in option else 5000)
    try:
        client.admin.command("ping")
        assert wire.Primary(client).find() is None
        notes: Any = client.get_default_database()["wire"]
        wire.insert(notes, {"_id": option, "text": "x" * 5_000_000})
        assert [row["_id"] for row in wire.find(notes, {"_id": option})] == [option]
        notes.drop()
    finally:
        client.close()


def test_a_mongodb_that_does_not_answer_is_waited_for_no_longer_than_the_deadline(
    mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where there is no connection yet: to open one is a part of the operation."""
    client: Any = wire.pymongo.MongoClient(mongodb_uri, timeoutMS=1000)
    try:
        client.admin.command("ping")
        primary = wire.Primary(client)
        server = primary.find()
        # A port that takes connections and never says a word.
        with socket.create_server(("127.0.0.1", 0)) as silent:
            server.pool.reset()
            server.pool.ready()
            monkeypatch.setattr(server.pool, "address", silent.getsockname())
            begun = time.monotonic()
            with pytest.raises(wire.Unusual):
                primary.exchanged(server, b"")
            assert 0.5 < time.monotonic() - begun < 5
    finally:
        client.close()
