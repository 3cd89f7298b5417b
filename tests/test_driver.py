"""The two drivers: what a request asks of MongoDB is the same by PyMongo's own way and by the short one."""

import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bson
import pytest
from bson import InvalidDocument
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.son import SON
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from flask import Flask
from pymongo import MongoClient, ReadPreference, WriteConcern, timeout
from pymongo.collection import Collection
from pymongo.errors import (
    DuplicateKeyError,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from pymongo.read_concern import ReadConcern
from pymongo.uri_parser import parse_uri

from chaos.proxy import Proxy
from service.mongo import connection, driver, problems, short, transactions, wire
from service.mongo.connection import Client
from service.mongo.driver import Selection
from service.mongo.memory import MemoryClient
from service.mongo.plain import PyMongoDriver
from service.mongo.portion import portion_of
from service.mongo.short import ShortDriver
from service.serve import mongod, replica_set
from service.serve.ports import free_port
from tests.client import Person

SECONDS = 1.0
"""What an operation may take on the connections of these tests."""
NOT_PRIMARY = 10107
INSERTED = b"\x10n\x00\x01\x00\x00\x00"
"""What the reply to an insert of one document holds and no other: `n` is 1."""

Notes = Collection[Any]


def certificate(folder: Path) -> Path:
    """The file with the key and the certificate of a server at 127.0.0.1, which signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    made = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / "server.pem"
    path.write_bytes(key.private_bytes(*form) + made.public_bytes(Encoding.PEM))
    return path


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def server(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory, pem: Path) -> Iterator[str]:
    """The URI of a mongod that fails where it is told to, by its own fail points; nothing on mongomock."""
    if not pytestconfig.getoption("--mongodb"):
        yield ""
        return
    data, port = tmp_path_factory.mktemp("driver"), free_port()
    words = [str(mongod.find_mongod()), *mongod.options(data, 0.25, 64), "--port", str(port)]
    words += ["--setParameter", "enableTestCommands=1", "--tlsMode", "preferTLS", "--tlsCertificateKeyFile", str(pem)]
    process = mongod.spawn(words, data / "log")
    uri = f"mongodb://127.0.0.1:{port}/driver?replicaSet={mongod.REPLICA_SET}"
    try:
        replica_set.await_primary(uri, None, time.monotonic() + 60, process)
        yield uri
    finally:
        mongod.end(process, 10)


@contextmanager
def connected(uri: str, kind: str, **options: Any) -> Iterator[Any]:
    """A client whose driver is of a kind, on an empty collection `notes`."""
    with Client(uri, **{"timeoutMS": int(SECONDS * 1000), "appname": uuid.uuid4().hex, **options}) as client:
        client.driver = PyMongoDriver() if kind == "pymongo" else ShortDriver(SECONDS)
        client["driver"]["notes"].delete_many({})
        yield client


class Commands(CommandListener):
    """The names of the commands that were sent, by PyMongo or by the short way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        exchange = wire.exchange

        def counted(sock: Any, command: bytes, deadline: float) -> memoryview:
            self.names.append(next(iter(bson.decode(command))))
            return exchange(sock, command, deadline)

        monkeypatch.setattr(wire, "exchange", counted)

    def started(self, event: CommandStartedEvent) -> None:
        self.names.append(event.command_name)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    return Commands(monkeypatch)


KINDS = [pytest.param("pymongo", id="pymongo"), pytest.param("short", id="short", marks=pytest.mark.real)]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(kind: str, server: str, commands: Commands) -> Iterator[Any]:
    if not server:
        yield MemoryClient()
        return
    with connected(server, kind, event_listeners=[commands]) as client:
        yield client


@pytest.fixture
def notes(client: Any, commands: Commands) -> Notes:
    found: Notes = client["driver"]["notes"]
    found.insert_one({"_id": "a", "n": 0})
    commands.names.clear()
    return found


def fail(notes: Notes, *commands: str, times: int = 1, **data: Any) -> None:
    """Let the next commands of this client fail as `data` says (MongoDB, fail point `failCommand`)."""
    ((host, port),) = notes.database.client.nodes
    data |= {"failCommands": list(commands), "appName": notes.database.client.options.pool_options.appname}
    with MongoClient[Any](host, port) as admin:
        admin.admin.command("configureFailPoint", "failCommand", mode={"times": times}, data=data)


class TestBothDrivers:
    """On mongomock too, where it can."""

    def test_a_condition_a_sort_a_limit_and_a_projection_are_obeyed(self, notes: Notes) -> None:
        for number in range(1, 5):
            driver.insert(notes, {"_id": f"n{number}", "n": number})
        rows = driver.find(notes, {"n": {"$lt": 4}}, {"n": 1, "_id": 0}, sort=[("n", -1)], limit=2, hint="_id_")
        assert rows == [{"n": 3}, {"n": 2}]
        assert len(driver.find(notes, {})) == 5
        assert driver.find(notes, {"n": 9}) == []

    def test_one_is_found_or_none(self, notes: Notes) -> None:
        assert driver.find_one(notes, {"_id": "a"}) == {"_id": "a", "n": 0}
        assert driver.find_one(notes, {"_id": "a"}, {"n": 0}) == {"_id": "a"}
        assert driver.find_one(notes, {"_id": "b"}) is None

    @pytest.mark.real
    def test_a_document_comes_with_a_time_that_no_acknowledged_write_is_after(self, notes: Notes) -> None:
        for number in range(1, 4):
            with notes.database.client.start_session() as session:
                notes.update_one({"_id": "a"}, {"$set": {"n": number}}, session=session)
                written = session.operation_time
            found, moment = driver.find_at(notes, "a", {"n": 1})
            assert found == {"_id": "a", "n": number}
            assert moment >= written
        assert driver.find_at(notes, "b", {"n": 1})[0] is None

    def test_an_id_that_is_taken_is_told(self, notes: Notes) -> None:
        with pytest.raises(DuplicateKeyError):
            driver.insert(notes, {"_id": "a", "n": 1})
        assert driver.find(notes, {}) == [{"_id": "a", "n": 0}]

    def test_a_change_gives_back_what_is_then_there(self, notes: Notes) -> None:
        assert driver.change(notes, {"_id": "a", "n": 0}, {"$inc": {"n": 1}}) == {"_id": "a", "n": 1}
        assert driver.change(notes, {"_id": "a", "n": 0}, {"$inc": {"n": 1}}) is None
        assert driver.change(notes, {"_id": "b"}, {"$set": {"n": 5}}, upsert=True) == {"_id": "b", "n": 5}
        assert [row["n"] for row in driver.find(notes, {}, sort=[("_id", 1)])] == [1, 5]

    def test_an_update_tells_whether_there_was_one(self, notes: Notes) -> None:
        assert driver.update(notes, {"_id": "a", "n": 0}, {"$inc": {"n": 1}}) is True
        assert driver.update(notes, {"_id": "a", "n": 0}, {"$inc": {"n": 1}}) is False
        assert driver.update(notes, {"n": 1}, {"$set": {"n": 1}}) is True
        assert driver.find(notes, {}) == [{"_id": "a", "n": 1}]

    @pytest.mark.real
    def test_what_an_update_breaks_is_told(self, notes: Notes) -> None:
        notes.create_index("n", unique=True)
        try:
            driver.insert(notes, {"_id": "b", "n": 1})
            with pytest.raises(DuplicateKeyError):
                driver.update(notes, {"_id": "b"}, {"$set": {"n": 0}})
        finally:
            notes.drop_index("n_1")
        assert driver.find_one(notes, {"_id": "b"}) == {"_id": "b", "n": 1}

    @pytest.mark.real
    def test_a_write_after_one_that_was_refused_is_done(self, notes: Notes) -> None:
        """The number of the one that was refused is not used again: MongoDB would take it for the same write."""
        for number in range(1, 4):
            with pytest.raises(DuplicateKeyError):
                driver.insert(notes, {"_id": "a"})
            assert driver.change(notes, {"_id": "a"}, {"$inc": {"n": 1}}) == {"_id": "a", "n": number}

    @pytest.mark.real
    def test_a_hint_that_names_no_index_is_told(self, notes: Notes) -> None:
        with pytest.raises(OperationFailure, match="hint provided does not correspond"):
            driver.find(notes, {}, hint=[("nothing", 1)])

    @pytest.mark.real
    def test_what_has_no_form_in_bson_is_told(self, notes: Notes) -> None:
        with pytest.raises(InvalidDocument):
            driver.insert(notes, {"_id": "b", "n": object()})
        with pytest.raises(InvalidDocument):
            driver.find(notes, {"n": object()})
        assert driver.find(notes, {}) == [{"_id": "a", "n": 0}]

    @pytest.mark.real
    def test_more_than_one_reply_holds_is_whole(self, notes: Notes) -> None:
        for number in range(5):
            driver.insert(notes, {"_id": f"large-{number}", "n": 9, "text": "x" * 5_000_000})
        found = driver.find(notes, {"n": 9}, sort=[("_id", 1)], limit=5)
        assert [row["_id"] for row in found] == [f"large-{number}" for number in range(5)]
        assert len(driver.find(notes, {"n": 9})) == 5
        status = notes.database.client.admin.command("serverStatus")
        assert status["metrics"]["cursor"]["open"]["total"] == 0

    def test_a_page_has_what_was_asked_for_and_tells_of_more(self, notes: Notes) -> None:
        for number in range(1, 4):
            driver.insert(notes, {"_id": f"n{number}", "n": number})
        found = driver.portion(Selection(notes, {"n": {"$gt": 0}}, {"n": 1, "_id": 0}, [("n", -1)], 2, hint="_id_"))
        assert (found.rows, found.more) == ([{"n": 3}, {"n": 2}], True)
        found = driver.portion(Selection(notes, {"n": {"$gt": 0}}, None, [("n", -1)], 3))
        assert ([row["n"] for row in found.rows], found.more) == ([3, 2, 1], False)
        assert found.size >= sum(len(bson.encode(row)) for row in found.rows)
        assert driver.portion(Selection(notes, {"n": 9}, limit=3))[:2] == ([], False)

    @pytest.mark.real
    def test_a_page_that_mongodb_sorts_in_memory_leaves_nothing_open(self, notes: Notes) -> None:
        for number in range(1, 4):
            driver.insert(notes, {"_id": f"n{number}", "n": number})
        assert [row["n"] for row in driver.portion(Selection(notes, {}, None, [("n", -1)], 2)).rows] == [3, 2]
        status = notes.database.client.admin.command("serverStatus")
        assert status["metrics"]["cursor"]["open"]["total"] == 0

    @pytest.mark.real
    @pytest.mark.parametrize(("length", "rows"), [(2_500_000, 2), (9_000_000, 1)])
    def test_a_page_ends_behind_its_bytes_and_nothing_is_left_open(self, notes: Notes, length: int, rows: int) -> None:
        for number in range(3):
            driver.insert(notes, {"_id": f"large-{number}", "n": 9, "text": "x" * length})
        found = driver.portion(Selection(notes, {"n": 9}, None, [("_id", 1)], 5))
        assert ([row["_id"] for row in found.rows], found.more) == ([f"large-{n}" for n in range(rows)], True)
        last = driver.portion(Selection(notes, {"_id": "large-2"}, None, [("_id", 1)], 5))
        assert ([row["_id"] for row in last.rows], last.more) == (["large-2"], False)
        status = notes.database.client.admin.command("serverStatus")
        assert status["metrics"]["cursor"]["open"]["total"] == 0

    @pytest.mark.real
    def test_a_cursor_that_ends_early_is_told(self, notes: Notes) -> None:
        for number in range(5):
            driver.insert(notes, {"_id": f"large-{number}", "n": 9, "text": "x" * 5_000_000})
        fail(notes, "getMore", errorCode=43)
        with pytest.raises(OperationFailure):
            driver.find(notes, {"n": 9})
        assert len(driver.find(notes, {"n": 9})) == 5


@pytest.mark.real
class TestDeadlines:
    """MongoDB ends in time what takes long, and is not asked for it again."""

    def test_mongodb_is_told_the_time_that_is_left(self, notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
        told: list[int] = []
        exchange = wire.exchange
        monkeypatch.setattr(
            wire, "exchange", lambda *args: told.append(bson.decode(args[1])["maxTimeMS"]) or exchange(*args)
        )
        notes.database.client.driver = ShortDriver(SECONDS)
        driver.find(notes, {})
        with timeout(SECONDS / 2):
            driver.find(notes, {})
            driver.change(notes, {"_id": "a"}, {"$inc": {"n": 1}})
        whole, *half = (milliseconds / 1000 for milliseconds in told)
        assert SECONDS * 0.9 < whole < SECONDS
        assert all(SECONDS * 0.4 < seconds < SECONDS / 2 for seconds in half)
        assert len(half) == 2

    @pytest.mark.parametrize("write", [False, True])
    def test_what_mongodb_has_ended_is_not_tried_again(self, notes: Notes, commands: Commands, write: bool) -> None:
        fail(notes, "find", "findAndModify", errorCode=50)
        with pytest.raises(ExecutionTimeout):
            driver.change(notes, {"_id": "a"}, {"$inc": {"n": 1}}) if write else driver.find(notes, {})
        assert len(commands.names) == 1
        assert driver.find(notes, {}) == [{"_id": "a", "n": 0}]

    def test_without_time_nothing_is_sent(self, notes: Notes, commands: Commands) -> None:
        with timeout(0.01):
            time.sleep(0.02)
            for work in (lambda: driver.find(notes, {}), lambda: driver.insert(notes, {"_id": "b"})):
                with pytest.raises(PyMongoError) as error:
                    work()
                assert error.value.timeout
        assert commands.names == []
        assert driver.find(notes, {}) == [{"_id": "a", "n": 0}]


@pytest.mark.real
class TestFailures:
    """What goes wrong once is done once more; what goes on is told in time."""

    FAILURES = [{"errorCode": NOT_PRIMARY}, {"closeConnection": True}]

    @pytest.mark.parametrize("failure", FAILURES, ids=["not primary", "connection closed"])
    def test_a_read_is_tried_once_more(self, notes: Notes, commands: Commands, failure: dict[str, Any]) -> None:
        fail(notes, "find", **failure)
        assert driver.find_one(notes, {"_id": "a"}) == {"_id": "a", "n": 0}
        assert commands.names == ["find", "find"]

    @pytest.mark.parametrize("failure", FAILURES, ids=["not primary", "connection closed"])
    def test_a_write_is_tried_once_more(self, notes: Notes, commands: Commands, failure: dict[str, Any]) -> None:
        fail(notes, "insert", "findAndModify", **failure)
        driver.insert(notes, {"_id": "b", "n": 0})
        fail(notes, "insert", "findAndModify", **failure)
        assert driver.change(notes, {"_id": "b"}, {"$inc": {"n": 1}}) == {"_id": "b", "n": 1}
        fail(notes, "update", **failure)
        assert driver.update(notes, {"_id": "b"}, {"$inc": {"n": 1}})
        assert commands.names == ["insert", "insert", "findAndModify", "findAndModify", "update", "update"]
        assert driver.find_one(notes, {"_id": "b"}) == {"_id": "b", "n": 2}

    def test_a_write_that_was_done_but_not_acknowledged_is_not_done_again(
        self, notes: Notes, commands: Commands
    ) -> None:
        late = {"code": 89, "errmsg": "the others do not answer"}
        fail(notes, "findAndModify", writeConcernError=late, errorLabels=["RetryableWriteError"])
        assert driver.change(notes, {"_id": "a"}, {"$inc": {"n": 1}}) == {"_id": "a", "n": 1}
        fail(notes, "update", writeConcernError=late, errorLabels=["RetryableWriteError"])
        # The condition holds no longer: it is told what the first try did.
        assert driver.update(notes, {"_id": "a", "n": 1}, {"$inc": {"n": 1}})
        assert commands.names == ["findAndModify", "findAndModify", "update", "update"]
        assert driver.find_one(notes, {"_id": "a"}) == {"_id": "a", "n": 2}

    def test_connections_that_broke_unseen_are_replaced(self, notes: Notes) -> None:
        driver.find_one(notes, {"_id": "a"})
        for one in notes.database.client._topology.select_server(lambda servers: servers, "test").pool.conns:
            one.conn.sock.shutdown(socket.SHUT_RDWR)
        assert driver.find_one(notes, {"_id": "a"}) == {"_id": "a", "n": 0}
        assert driver.change(notes, {"_id": "a"}, {"$inc": {"n": 1}}) == {"_id": "a", "n": 1}

    @pytest.mark.parametrize("command", ["find", "insert", "findAndModify", "update"])
    def test_a_server_that_does_not_answer_is_waited_for_until_the_deadline(self, notes: Notes, command: str) -> None:
        fail(notes, command, blockConnection=True, blockTimeMS=int(SECONDS * 1700), times=3)
        begun = time.monotonic()
        with pytest.raises(PyMongoError) as raised:
            {
                "find": lambda: driver.find(notes, {}),
                "insert": lambda: driver.insert(notes, {"_id": "b"}),
                "findAndModify": lambda: driver.change(notes, {"_id": "a"}, {"$inc": {"n": 1}}),
                "update": lambda: driver.update(notes, {"_id": "a"}, {"$inc": {"n": 1}}),
            }[command]()
        assert problems.is_transient(raised.value)
        assert SECONDS * 0.9 < time.monotonic() - begun < SECONDS * 2.5

    def test_a_late_reply_is_not_taken_for_the_next_one(self, notes: Notes) -> None:
        fail(notes, "find", blockConnection=True, blockTimeMS=int(SECONDS * 1300))
        with pytest.raises(PyMongoError):
            driver.find_one(notes, {"_id": "a"})
        driver.insert(notes, {"_id": "b", "n": 1})
        assert [driver.find_one(notes, {"_id": wanted}) for wanted in "ba"] == [
            {"_id": "b", "n": 1},
            {"_id": "a", "n": 0},
        ]

    def test_a_pool_without_a_free_connection_is_waited_for_until_the_deadline(self, server: str, kind: str) -> None:
        with connected(server, kind, maxPoolSize=1) as client:
            notes = client["driver"]["notes"]
            pool = client._topology.select_server(lambda servers: servers, "test").pool
            begun = time.monotonic()
            with pool.checkout():
                with pytest.raises(PyMongoError) as raised:
                    driver.find(notes, {})
                assert problems.is_transient(raised.value)
                assert SECONDS * 0.9 < time.monotonic() - begun < SECONDS * 2.5
            assert driver.find(notes, {}) == []


@pytest.mark.real
class TestOptions:
    """What a collection asks for is done, by whichever driver."""

    @pytest.fixture
    def stamped(self, notes: Notes) -> Notes:
        driver.insert(notes, {"_id": "b", "at": datetime(2026, 1, 1), "n": 2.5})
        return notes

    def test_its_codec_options(self, stamped: Notes) -> None:
        aware: Any = stamped.with_options(codec_options=CodecOptions(tz_aware=True, document_class=SON))
        found = driver.find_one(aware, {"_id": "b"})
        assert type(found) is SON
        assert found["at"] == datetime(2026, 1, 1, tzinfo=UTC)
        assert type(driver.change(aware, {"_id": "b"}, {"$set": {"n": 3.5}})) is SON

    def test_its_types(self, stamped: Notes) -> None:
        class Half(TypeDecoder):
            bson_type = float

            def transform_bson(self, value: Any) -> Any:
                return f"{value:.1f}"

        options: Any = CodecOptions(type_registry=TypeRegistry([Half()]))
        found = driver.find_one(stamped.with_options(codec_options=options), {"_id": "b"})
        assert found is not None
        assert found["n"] == "2.5"

    def test_its_read_concern(self, stamped: Notes) -> None:
        majority = stamped.with_options(read_concern=ReadConcern("majority"))
        assert driver.find_one(majority, {"_id": "a"}) == {"_id": "a", "n": 0}
        with pytest.raises(OperationFailure, match="readConcern"):
            driver.find(stamped.with_options(read_concern=ReadConcern("none such")), {})

    def test_its_write_concern(self, stamped: Notes) -> None:
        five = stamped.with_options(write_concern=WriteConcern(w=5))
        with pytest.raises(PyMongoError, match="enough data-bearing nodes"):
            driver.insert(five, {"_id": "c"})
        with pytest.raises(PyMongoError, match="enough data-bearing nodes"):
            driver.change(five, {"_id": "a"}, {"$inc": {"n": 1}})

    def test_its_read_preference(self, stamped: Notes) -> None:
        secondary = stamped.with_options(read_preference=ReadPreference.SECONDARY)
        with pytest.raises(ServerSelectionTimeoutError):
            driver.find(secondary, {})

    def test_a_deadline_of_its_own(self, stamped: Notes) -> None:
        fail(stamped, "find", blockConnection=True, blockTimeMS=int(SECONDS * 1700), times=2)
        begun = time.monotonic()
        with pytest.raises(PyMongoError), timeout(0.2):
            driver.find(stamped, {})
        assert time.monotonic() - begun < SECONDS * 0.9

    def test_a_session_and_its_transaction(self, stamped: Notes) -> None:
        with stamped.database.client.start_session() as session, session.bind():
            session.start_transaction()
            driver.insert(stamped, {"_id": "c"})
            assert driver.find_one(stamped, {"_id": "c"}) == {"_id": "c"}
            assert transactions.outside(driver.find_one, stamped, {"_id": "c"}) is None
            session.abort_transaction()
        assert driver.find_one(stamped, {"_id": "c"}) is None


FORK = """
import os, sys, warnings
from service.mongo import driver
from service.mongo.connection import Client
from service.mongo.plain import PyMongoDriver
from service.mongo.portion import portion_of

client = Client(sys.argv[1], timeoutMS=5000)
if sys.argv[2] == "pymongo":
    client.driver = PyMongoDriver()
notes = client["driver"]["notes"]
assert driver.find_one(notes, {"_id": "a"}) == {"_id": "a", "n": 0}
warnings.filterwarnings("ignore", message="MongoClient opened before fork")
child = os.fork()
name = "parent" if child else "child"
for number in range(200):
    driver.insert(notes, {"_id": f"{name}-{number}"})
    assert driver.find_one(notes, {"_id": f"{name}-{number}"}) == {"_id": f"{name}-{number}"}
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert len(driver.find(notes, {})) == 401
"""


@pytest.mark.real
def test_a_fork_takes_connections_of_its_own(notes: Notes, server: str, kind: str) -> None:
    command = [sys.executable, "-c", FORK, server, kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# --- The short way ---------------------------------------------------------------------------------------------------


def refuse(*_args: Any, **_kwargs: Any) -> Any:
    raise AssertionError("PyMongo is asked")


@pytest.fixture
def no_pymongo(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What makes PyMongo's own operations fail from then on."""

    def forbid() -> None:
        for name in ("find", "insert_one", "find_one_and_update"):
            monkeypatch.setattr(Collection, name, refuse)

    return forbid


def test_a_portion_may_hold_a_uuid() -> None:
    rows = [{"_id": "b", "n": uuid.uuid4()}]
    assert portion_of(rows, 3).rows == rows


@pytest.mark.real
@pytest.mark.parametrize("option", ["", "&directConnection=true", "&readConcernLevel=majority"])
def test_the_plain_case_does_without_pymongos_layers(server: str, no_pymongo: Callable[[], None], option: str) -> None:
    with connected(server + option, "short") as client:
        notes = client["driver"]["notes"]
        client.driver = connection.chosen(client.options)
        notes.find_one({})
        no_pymongo()
        driver.insert(notes, {"_id": "a", "n": 1})
        assert driver.change(notes, {"_id": "a"}, {"$inc": {"n": 1}}) == {"_id": "a", "n": 2}
        assert driver.change(notes, {"_id": "b"}, {"$set": {"n": 0}}, upsert=True) == {"_id": "b", "n": 0}
        assert driver.update(notes, {"_id": "b"}, {"$inc": {"n": 1}})
        assert driver.find(notes, {"n": 2}) == [{"_id": "a", "n": 2}]
        assert driver.find_one(notes, {"_id": "c"}) is None
        assert driver.find_at(notes, "a", {"n": 1})[0] == {"_id": "a", "n": 2}


@pytest.mark.real
def test_it_goes_through_tls(server: str, pem: Path, no_pymongo: Callable[[], None]) -> None:
    with connected(f"{server}&tls=true&tlsCAFile={pem}", "short") as client:
        notes = client["driver"]["notes"]
        notes.find_one({})
        no_pymongo()
        driver.insert(notes, {"_id": "a", "text": "x" * 1_000_000})
        found = driver.find_one(notes, {"_id": "a"})
        assert found is not None
        assert len(found["text"]) == 1_000_000


@pytest.mark.real
def test_a_reply_that_gets_lost_is_asked_for_again(server: str) -> None:
    (host, port), *_ = parse_uri(server)["nodelist"]
    with Proxy(port) as proxy, connected(f"mongodb://{host}:{proxy.port}/?directConnection=true", "short") as client:
        notes = client["driver"]["notes"]
        notes.insert_one({"_id": "a", "n": 0})
        for find in (lambda: driver.find_one(notes, {"_id": "a"}), lambda: driver.find_at(notes, "a", {"n": 1})[0]):
            proxy.loses = b"firstBatch"
            assert find() == {"_id": "a", "n": 0}
            assert proxy.loses is None


@pytest.mark.real
def test_a_write_whose_reply_gets_lost_is_done_once(server: str, kind: str) -> None:
    (host, port), *_ = parse_uri(server)["nodelist"]
    with Proxy(port) as proxy, connected(f"mongodb://{host}:{proxy.port}/?directConnection=true", kind) as client:
        notes = client["driver"]["notes"]
        proxy.loses = INSERTED
        driver.insert(notes, {"_id": "a", "n": 0})
        assert proxy.loses is None
        proxy.loses = b"lastErrorObject"
        assert driver.change(notes, {"_id": "a"}, {"$inc": {"n": 1}}) == {"_id": "a", "n": 1}
        assert proxy.loses is None
        proxy.loses = b"nModified"
        assert driver.update(notes, {"_id": "a", "n": 1}, {"$inc": {"n": 1}})
        assert proxy.loses is None
        assert driver.find(notes, {}) == [{"_id": "a", "n": 2}]


@pytest.mark.real
@pytest.mark.parametrize("kind", ["short"], indirect=True)
def test_a_server_that_takes_connections_and_says_nothing_is_given_up(notes: Notes, monkeypatch: Any) -> None:
    """Also where there is no connection yet: to open one is a part of the operation."""
    own: Any = driver.driver_of(notes)
    pool = own.primary(notes.database.client._topology).pool
    with socket.create_server(("127.0.0.1", 0)) as silent:
        pool.reset()
        pool.ready()
        monkeypatch.setattr(pool, "address", silent.getsockname())
        begun = time.monotonic()
        with pytest.raises(short.NoReply):
            own.exchanged(SimpleNamespace(pool=pool), bson.encode({"ping": 1}), begun + SECONDS)
        assert SECONDS * 0.5 < time.monotonic() - begun < SECONDS * 3


class Stop(BaseException):
    """What ends a thread in the midst of anything, as a KeyboardInterrupt does."""


@pytest.mark.real
@pytest.mark.parametrize("kind", ["short"], indirect=True)
def test_the_number_of_a_write_that_was_cut_short_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch, notes: Notes
) -> None:
    receive = wire.receive

    def cut_short(*args: Any) -> Any:
        receive(*args)
        raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(wire, "receive", cut_short)
        with pytest.raises(Stop):
            driver.change(notes, {"_id": "a"}, {"$inc": {"n": 1}})
    assert driver.change(notes, {"_id": "a"}, {"$inc": {"n": 1}}) == {"_id": "a", "n": 2}


@pytest.mark.real
def test_two_connections_of_a_process_do_not_know_of_each_other(server: str, mongodb_uri: str) -> None:
    with connected(server, "short") as one, connected(mongodb_uri, "short") as other:
        for client, name in ((one, "one"), (other, "other")):
            client["driver"]["notes"].insert_one({"_id": name})
        for _ in range(3):
            assert driver.find(one["driver"]["notes"], {}) == [{"_id": "one"}]
            assert driver.find(other["driver"]["notes"], {}) == [{"_id": "other"}]
        other.drop_database("driver")


@pytest.mark.real
@pytest.mark.parametrize("action", ["patch", "get"])
def test_a_person_gets_what_one_lost_reply_held(
    monkeypatch: pytest.MonkeyPatch, app: Flask, ada: Person, action: str
) -> None:
    note = ada.make_note(priority=1)
    real, lost = wire.receive, []

    def receive(*args: Any) -> Any:
        reply = real(*args)
        if not lost:
            lost.append(reply)
            raise ConnectionResetError
        return reply

    monkeypatch.setattr(wire, "receive", receive)
    path = f"/v1/notes/{note['id']}"
    answer = ada.get(path) if action == "get" else ada.patch(path, {"$inc": {"priority": 1}})
    assert lost
    assert (answer.status_code, answer.json["priority"]) == (200, 1 if action == "get" else 2)
