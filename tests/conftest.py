"""One suite, two databases: mongomock, or with `--mongodb` a real server started for the run."""

import gc
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from coverage import Coverage
from flask import Flask
from flask.testing import FlaskClient
from mongoengine.connection import get_connection
from pymongo.collection import Collection
from werkzeug.routing import Rule

import settings
from service import app as application
from service.core.ids import new_id
from service.core.log import Lines
from service.documents import RECORDS, Record
from service.files.blobs import Blobs
from service.files.stores import store_of
from service.identity import passwords
from service.mongo import connection
from service.serve import mongod
from service.streams.app import Streams
from service.upkeep import indexes
from tests import remembering
from tests.client import Person, Phone
from tests.examples import Examples
from tests.recording import Recording
from tests.streaming import Served, served
from tests.trees import another_database
from tests.types import REGISTRY, SHIPPED


def pytest_configure() -> None:
    """Hear SIGINT: a shell has the programs in its background ignore it, and so would all that the tests start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    Rule._compile_builder = remembering.builder_at_need


def pytest_collection_finish() -> None:
    """Have the garbage collector leave out what stays for the whole run: all modules and tests."""
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mongodb", action="store_true", help="run on a real MongoDB instead of mongomock")


DATABASE = {"app", "mongodb_uri", "pytestconfig"}
"""The fixtures by which a test comes to the database of the run, or asks which one it is."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, and count, what only a real server has; there, what has nothing to do with a database."""
    left_out = [item for item in items if is_for_another(item, config.getoption("--mongodb"))]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in {*left_out}]


def is_for_another(item: pytest.Item, real: bool) -> bool:
    """Whether a test runs on the other database alone. One that has to do with none runs on mongomock."""
    marks = {marker.name for marker in item.iter_markers()}
    is_real = bool(marks & {"real", "browser", "clients"})
    if not real:
        return is_real
    assert isinstance(item, pytest.Function)
    return "once" in marks or not (is_real or DATABASE & {*item.fixturenames})


MEASURED = """[run]
branch = true
parallel = true
source = {root}/service
data_file = {root}/.coverage
concurrency = multiprocessing, thread
patch = _exit, execv, fork
sigterm = true
"""
"""How coverage measures a process that a test starts, however it ends, wherever its working directory is."""


@pytest.fixture(scope="module", autouse=True)
def measured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have the processes of a module that is marked so counted, where the run itself is."""
    if request.node.get_closest_marker("measured") is None or Coverage.current() is None:
        yield
        return
    file = tmp_path_factory.mktemp("coverage") / "coveragerc"
    file.write_text(MEASURED.format(root=ROOT))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COVERAGE_PROCESS_START", str(file))
        yield


@pytest.fixture(scope="session")
def mongodb_uri(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The database of the run: one beside that which SERVICE_MONGODB_URI names, else one on a server of our own."""
    if not pytestconfig.getoption("--mongodb"):
        yield connection.MEMORY
    elif uri := os.environ.get("SERVICE_MONGODB_URI"):
        yield another_database(uri, "test")
    else:
        server = mongod.LocalServer.start(tmp_path_factory.mktemp("mongodb"))
        yield server.uri
        server.stop()


@pytest.fixture(scope="session")
def test_settings(mongodb_uri: str) -> dict[str, Any]:
    return settings.load({"SERVICE_ENV": "test", "SERVICE_MONGODB_URI": mongodb_uri})


@pytest.fixture(scope="session")
def shared_app(test_settings: dict[str, Any]) -> Iterator[Flask]:
    """The app that most tests share, with the types that ship; to make the indexes takes a second on a real server."""
    app = application.create_app(test_settings, SHIPPED)
    with app.app_context():
        indexes.make(REGISTRY)
    yield app
    if (barrier := app.extensions.get("madang.barrier")) is not None:
        barrier.leave()
        barrier.client.close()
    connection.disconnect()


@pytest.fixture(scope="session")
def whole_app(test_settings: dict[str, Any], shared_app: Flask) -> Flask:
    """The app with all record types of this tree, for tests that are about any."""
    if RECORDS == SHIPPED:
        return shared_app
    app = application.create_app(test_settings)
    with app.app_context():
        indexes.make(app.extensions["madang.registry"])
    return app


@pytest.fixture(autouse=True)
def remembering_hasher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hashes for each person of each test were half of the run. A module on hashing itself overrides this."""
    monkeypatch.setattr(passwords, "HASHER", remembering.HASHER)


def empty(collections: list[Any]) -> None:
    """Delete all documents. A real server is asked first, at once, which of the collections have any."""

    def first(name: str) -> list[dict[str, Any]]:
        return [{"$limit": 1}, {"$project": {"_id": {"$literal": name}}}]

    if isinstance(collections[0], Collection):
        one, *others = (collection.name for collection in collections)
        unions = [{"$unionWith": {"coll": other, "pipeline": first(other)}} for other in others]
        filled = {found["_id"] for found in collections[0].aggregate([*first(one), *unions])}
        collections = [collection for collection in collections if collection.name in filled]
    for collection in collections:
        collection.delete_many({})


@pytest.fixture
def app(request: pytest.FixtureRequest) -> Iterator[Flask]:
    """The shared app, or where a test is about all types the whole one, on an empty database."""
    about_all = request.node.get_closest_marker("all_types")
    found: Flask = request.getfixturevalue("whole_app" if about_all else "shared_app")
    yield found
    empty([document._get_collection() for document in indexes.document_classes(found.extensions["madang.registry"])])
    security = found.extensions["madang.security"]
    security.tokens.verified.entries.clear()
    security.sessions.seen.entries.clear()


@pytest.fixture
def make_app(test_settings: dict[str, Any], app: Flask) -> Any:
    """A function that makes an app on the same database with other settings, or other record types."""

    def make(documents: Sequence[type[Record]] | None = None, **changed: Any) -> Flask:
        served = app.extensions["madang.registry"].documents if documents is None else documents
        return application.create_app({**test_settings, **changed}, served)

    return make


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def phone(app: Flask) -> Phone:
    """A client that nobody is signed in on."""
    return Phone(app.test_client())


@pytest.fixture
def ada(app: Flask) -> Person:
    return Person.sign_up(app.test_client(), "ada")


@pytest.fixture
def bob(app: Flask) -> Person:
    return Person.sign_up(app.test_client(), "bob")


@pytest.fixture
def examples(ada: Person) -> Examples:
    """What makes records of any type for Ada."""
    return Examples(ada)


@pytest.fixture
def database_name() -> str:
    return str(get_connection().get_default_database().name)


# The streams, and who records for them


class Draining:
    """Whether the server is about to end, in the hands of a test."""

    def __init__(self) -> None:
        self.now = False

    def __call__(self) -> bool:
        return self.now


@pytest.fixture
def draining() -> Draining:
    return Draining()


@pytest.fixture(scope="session")
def object_store_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server that speaks S3, which all tests share, with a bucket."""
    # What it stands on is large, and most runs have no use for it.
    from botocore.loaders import create_loader

    from tests.object_store import CREDENTIALS, make_bucket, object_store

    with object_store(tmp_path_factory.mktemp("s3")) as port, pytest.MonkeyPatch.context() as patch:
        for name, text in CREDENTIALS.items():
            patch.setenv(name, text)
        # What botocore knows of S3 is megabytes of JSON, which each client would read for itself.
        patch.setattr("botocore.session.create_loader", cache(create_loader))
        make_bucket(port)
        yield port


@pytest.fixture
def folder_url(object_store_port: int) -> str:
    """What FILES_URL says of a folder that nobody else uses."""
    from tests.object_store import url_of

    return url_of(object_store_port, new_id())


@pytest.fixture
def store_settings() -> dict[str, Any]:
    """Where the bytes of files are; a module of tests for every store has another one."""
    return {}


@pytest.fixture
def blobs(test_settings: dict[str, Any], store_settings: dict[str, Any]) -> Blobs:
    return store_of({**test_settings, **store_settings})


@pytest.fixture
def serve(app: Flask, test_settings: dict[str, Any], store_settings: dict[str, Any], draining: Draining) -> Any:
    """A function that makes the streams with some other settings."""

    def make(**changed: Any) -> Any:
        config = {**test_settings, **store_settings, **changed}
        return served(Streams(config, REGISTRY, draining, {}, Lines(config)))

    return make


@pytest.fixture
def streams(serve: Any) -> Iterator[Served]:
    with serve() as found:
        yield found


@pytest.fixture
def recording(app: Flask, test_settings: dict[str, Any]) -> Iterator[Recording]:
    found = Recording(REGISTRY, test_settings)
    found.catch_up()
    yield found
    found.close()


@pytest.fixture
def recorded(recording: Recording) -> Iterator[None]:
    """All that is written is recorded as it comes, as a worker does it."""
    ending = threading.Event()

    def work() -> None:
        while not ending.is_set():
            recording.recorder.step(recording.lease)

    recorder = threading.Thread(target=work)
    recorder.start()
    yield
    ending.set()
    recorder.join()


ROOT = Path(__file__).parent.parent
