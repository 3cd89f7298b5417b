"""tus 1.0: uploads that go on where they broke off."""

import hashlib
from base64 import b64encode
from datetime import timedelta
from typing import Any

import pytest

from service.core.clock import now
from service.documents import Blob, File
from service.files.blobs import CHUNK_BYTES, Blobs
from service.files.check import faults
from service.files.resumable import Resumable
from service.files.uploads import Uploads
from service.streams import tus
from tests.client import Person
from tests.object_store import stored_in
from tests.streaming import Exchange, Sent, Served
from tests.types import REGISTRY
from tests.waiting import until

VERSION = {"tus_resumable": "1.0.0"}
PART = {"content_type": "application/offset+octet-stream"}
BODY = bytes(n * 7 % 251 for n in range(3 * CHUNK_BYTES + 100))


@pytest.fixture(params=["mongodb", pytest.param("s3", marks=pytest.mark.real)])
def store_settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Every test here is one of both stores."""
    return {"FILES_URL": request.getfixturevalue("folder_url")} if request.param == "s3" else {}


def text(value: str) -> str:
    return b64encode(value.encode()).decode()


def ask(streams: Served, person: Person, method: str, path: str, **headers: str) -> Sent:
    return streams.ask(method, path, "", **{**person.headers, **VERSION, **headers})


def begin(streams: Served, person: Person, size: int = len(BODY), body: bytes = b"", **headers: str) -> Sent:
    """Create an upload, with its first bytes if there are any."""
    told = {"upload_length": str(size), "upload_metadata": f"filename {text('a.bin')},empty", **headers}
    asked = {**person.headers, **VERSION, **told, **(PART if body else {})}
    return streams.begin_body("POST", "/v1/uploads", {}, body, **asked).result()


def started(streams: Served, person: Person, path: str, offset: int, body: bytes, **more: Any) -> Exchange:
    asked = {**person.headers, **VERSION, **PART, "upload_offset": str(offset)}
    whole = more.pop("whole", True)
    return streams.begin_body("PATCH", path, {}, body, whole=whole, **{**asked, **more})


def patch(streams: Served, person: Person, path: str, offset: int, body: bytes, **more: str) -> Sent:
    return started(streams, person, path, offset, body, **more).result()


def offset_of(streams: Served, person: Person, path: str) -> int:
    return int(ask(streams, person, "HEAD", path).headers["upload-offset"])


def content(streams: Served, person: Person, id: str) -> bytes:
    return streams.ask("GET", f"/v1/files/{id}/content", "", **person.headers).body


def test_the_last_byte_makes_the_file(streams: Served, blobs: Blobs, ada: Person) -> None:
    made = begin(streams, ada)
    path = made.headers["location"]
    assert (made.status, made.headers["tus-resumable"]) == (201, "1.0.0")
    assert "upload-expires" in made.headers
    assert ada.get("/v1/accounts/me").json["storage"]["used"] == len(BODY)
    half = patch(streams, ada, path, 0, BODY[:300_000])
    assert (half.status, half.headers["upload-offset"], half.headers.get("x-file-id")) == (204, "300000", None)
    assert File._get_collection().count_documents({}) == 0
    last = patch(streams, ada, path, 300_000, BODY[300_000:])
    assert (last.status, last.headers["upload-offset"]) == (204, str(len(BODY)))
    id = last.headers["x-file-id"]
    record = ada.get(f"/v1/files/{id}").json
    assert (record["name"], record["size"]) == ("a.bin", len(BODY))
    assert record["sha256"] == hashlib.sha256(BODY).hexdigest()
    assert content(streams, ada, id) == BODY
    head = ask(streams, ada, "HEAD", path)
    told = {name: head.headers.get(name) for name in ("upload-offset", "upload-length", "x-file-id", "cache-control")}
    size = str(len(BODY))
    assert told == {"upload-offset": size, "upload-length": size, "x-file-id": id, "cache-control": "no-store"}
    assert list(faults(blobs, content=True)) == []


def test_it_may_come_with_its_creation_and_under_an_id(streams: Served, ada: Person) -> None:
    metadata = {"upload_metadata": f"filename {text('b.txt')},filetype {text('image/png')},id {text('mine')}"}
    made = begin(streams, ada, 5, b"hello", **metadata)
    assert (made.status, made.headers["upload-offset"], made.headers["x-file-id"]) == (201, "5", "mine")
    assert ada.get("/v1/files/mine").json["media_type"] == "text/plain"
    again = begin(streams, ada, 5, b"hello", **metadata)
    assert (again.status, again.json["code"]) == (409, "already_exists")


def test_what_was_said_of_an_upload_is_told_as_it_was_said(streams: Served, ada: Person) -> None:
    said = f"filename {text('b.txt')},filetype {text('text/plain')},empty"
    path = begin(streams, ada, 5, upload_metadata=said).headers["location"]
    assert ask(streams, ada, "HEAD", path).headers["upload-metadata"] == said
    assert patch(streams, ada, path, 0, b"hello").status == 204
    assert ask(streams, ada, "HEAD", path).headers["upload-metadata"] == said
    bare = begin(streams, ada, 5, upload_metadata="").headers["location"]
    assert "upload-metadata" not in ask(streams, ada, "HEAD", bare).headers


def test_an_upload_with_an_id_that_is_begun_again_takes_its_room_once(
    streams: Served, blobs: Blobs, ada: Person, bob: Person
) -> None:
    metadata = {"upload_metadata": f"filename {text('b.txt')},id {text('mine')}"}
    first = begin(streams, ada, **metadata)
    again = begin(streams, ada, **metadata)
    assert (again.status, again.headers["location"]) == (201, first.headers["location"])
    assert ada.get("/v1/accounts/me").json["storage"]["used"] == len(BODY)
    # Another length, another name, another account, or bytes that have come: another upload.
    others = [begin(streams, ada, len(BODY) + 1, **metadata), begin(streams, bob, **metadata)]
    others.append(begin(streams, ada, upload_metadata=f"filename {text('c.txt')},id {text('mine')}"))
    assert patch(streams, ada, first.headers["location"], 0, BODY[:10]).status == 204
    others.append(begin(streams, ada, **metadata))
    assert len({one.headers["location"] for one in (first, *others)}) == 5


def test_an_image_is_measured(streams: Served, ada: Person) -> None:
    gif = b"GIF89a" + (7).to_bytes(2, "little") + (5).to_bytes(2, "little") + bytes(3)
    gif += b",\0\0\0\0" + (7).to_bytes(2, "little") + (5).to_bytes(2, "little") + b"\0\2\2D\1\0;"
    id = begin(streams, ada, len(gif), gif).headers["x-file-id"]
    record = ada.get(f"/v1/files/{id}").json
    assert (record["media_type"], record["width"], record["height"]) == ("image/gif", 7, 5)


def test_nothing_makes_a_file_at_once(streams: Served, ada: Person) -> None:
    made = begin(streams, ada, 0)
    assert content(streams, ada, made.headers["x-file-id"]) == b""


def test_a_client_that_breaks_off_goes_on_behind_what_is_stored(streams: Served, blobs: Blobs, ada: Person) -> None:
    path = begin(streams, ada).headers["location"]
    position = 0
    for size in (100, CHUNK_BYTES, CHUNK_BYTES + 1, 5):
        one = started(streams, ada, path, position, BODY[position : position + size], whole=False)
        one.hang_up()
        one.done.result(10)
        assert offset_of(streams, ada, path) == position + size
        position += size
    last = patch(streams, ada, path, position, BODY[position:])
    assert content(streams, ada, last.headers["x-file-id"]) == BODY
    assert list(faults(blobs, content=True)) == []


def test_another_server_goes_on(serve: Any, ada: Person) -> None:
    with serve() as one:
        path = begin(one, ada).headers["location"]
        patch(one, ada, path, 0, BODY[:300_000])
    with serve() as other:
        last = patch(other, ada, path, 300_000, BODY[300_000:])
        assert ada.get(f"/v1/files/{last.headers['x-file-id']}").json["sha256"] == hashlib.sha256(BODY).hexdigest()


def test_all_bytes_are_told_when_the_file_is_there(
    streams: Served, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = begin(streams, ada).headers["location"]
    patch(streams, ada, path, 0, BODY[:100])

    def killed(*_args: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(Resumable, "finish", killed)
        assert patch(streams, ada, path, 100, BODY[100:]).status == 500
    assert offset_of(streams, ada, path) == 100
    last = patch(streams, ada, path, 100, BODY[100:])
    assert content(streams, ada, last.headers["x-file-id"]) == BODY


def test_of_two_writers_one_is_refused_and_one_that_is_silent_loses_its_place(
    streams: Served, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = begin(streams, ada).headers["location"]
    one = started(streams, ada, path, 0, BODY[:100], whole=False)
    until(lambda: Blob._get_collection().find_one({"writer": {"$exists": True}}))
    other = patch(streams, ada, path, 0, BODY)
    assert (other.status, other.json["code"]) == (423, "upload_locked")
    Blob._get_collection().update_many({}, {"$set": {"writer_until": now()}})
    last = patch(streams, ada, path, 0, BODY)
    assert last.status == 204
    one.hang_up()
    one.done.result(10)
    assert content(streams, ada, last.headers["x-file-id"]) == BODY


def test_bytes_that_do_not_come_next_are_refused(streams: Served, ada: Person) -> None:
    path = begin(streams, ada).headers["location"]
    patch(streams, ada, path, 0, BODY[:100])
    for offset in (0, 99, 101):
        sent = patch(streams, ada, path, offset, b"x")
        assert (sent.status, sent.json["code"]) == (409, "offset_mismatch")
    assert patch(streams, ada, path, 100, BODY).json["code"] == "too_large"
    assert offset_of(streams, ada, path) >= 100


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
def test_a_part_with_a_wrong_checksum_is_not_kept(streams: Served, ada: Person, algorithm: str) -> None:
    path = begin(streams, ada).headers["location"]
    patch(streams, ada, path, 0, BODY[:100])
    rest = BODY[100:]
    right = b64encode(hashlib.new(algorithm, rest).digest()).decode()
    sent = patch(streams, ada, path, 100, rest[::-1], upload_checksum=f"{algorithm} {right}")
    assert (sent.status, sent.json["code"], offset_of(streams, ada, path)) == (460, "checksum_mismatch", 100)
    last = patch(streams, ada, path, 100, rest, upload_checksum=f"{algorithm} {right}")
    assert last.status == 204
    assert content(streams, ada, last.headers["x-file-id"]) == BODY


def test_an_upload_is_given_up_and_leaves_nothing(streams: Served, blobs: Blobs, ada: Person) -> None:
    path = begin(streams, ada).headers["location"]
    patch(streams, ada, path, 0, BODY[:100])
    assert ask(streams, ada, "DELETE", path).status == 204
    assert ask(streams, ada, "HEAD", path).status == ask(streams, ada, "DELETE", path).status == 404
    assert ada.get("/v1/accounts/me").json["storage"]["used"] == 0
    Uploads(REGISTRY, blobs, 2**30).sweep()
    assert stored_in(blobs) == (0, 0)


@pytest.mark.parametrize(
    ("body", "more", "status"),
    [
        (b"hello", {"upload_checksum": f"sha1 {text('x' * 20)}"}, 460),
        (b"much more than was said", {}, 413),
    ],
)
def test_a_creation_that_fails_leaves_nothing(
    streams: Served, blobs: Blobs, ada: Person, body: bytes, more: dict[str, str], status: int
) -> None:
    made = begin(streams, ada, 5, body, **more)
    assert (made.status, made.headers.get("location")) == (status, None)
    assert ada.get("/v1/accounts/me").json["storage"]["used"] == 0
    assert Uploads(REGISTRY, blobs, 2**30).sweep() == 1
    assert stored_in(blobs) == (0, 0)


def test_a_creation_that_breaks_off_leaves_nothing(streams: Served, blobs: Blobs, ada: Person) -> None:
    asked = {**ada.headers, **VERSION, **PART, "upload_length": str(len(BODY))}
    one = streams.begin_body("POST", "/v1/uploads", {}, BODY[:100], whole=False, **asked)
    until(lambda: Blob._get_collection().find_one({"writer": {"$exists": True}}))
    one.hang_up()
    one.done.result(10)
    assert one.messages == []
    assert ada.get("/v1/accounts/me").json["storage"]["used"] == 0
    assert Uploads(REGISTRY, blobs, 2**30).sweep() == 1


@pytest.mark.parametrize("hashes", [0, 1000], ids=["all is read again", "the hash is kept"])
def test_an_upload_that_is_swept_away_at_its_end_is_not_there(
    streams: Served, blobs: Blobs, ada: Person, monkeypatch: pytest.MonkeyPatch, hashes: int
) -> None:
    path = begin(streams, ada).headers["location"]
    write = Resumable.write

    def and_swept(*args: Any) -> Any:
        after = write(*args)
        Blob._get_collection().update_one({}, {"$set": {"expires_at": now()}})
        assert Uploads(REGISTRY, blobs, 2**30).sweep() == 1
        return after

    monkeypatch.setattr(Resumable, "write", and_swept)
    monkeypatch.setattr(tus, "MOST_HASHES", hashes)
    sent = patch(streams, ada, path, 0, BODY)
    assert (sent.status, sent.json["code"]) == (404, "not_found")
    assert stored_in(blobs) == (0, 0)


def test_a_creation_that_made_its_file_says_so_though_it_is_deleted_at_once(
    streams: Served, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Resumable.finish

    def and_deleted(*args: Any) -> Any:
        made = finish(*args)
        assert ada.delete(f"/v1/files/{made['_id']}").status_code == 204
        return made

    monkeypatch.setattr(Resumable, "finish", and_deleted)
    assert begin(streams, ada, 5, b"hello").status == 201
    path = begin(streams, ada).headers["location"]
    last = patch(streams, ada, path, 0, BODY)
    assert (last.status, last.headers["upload-offset"]) == (204, str(len(BODY)))
    assert "x-file-id" in last.headers


def test_a_finished_upload_has_no_writer_and_no_end(streams: Served, ada: Person) -> None:
    begin(streams, ada, 5, b"hello")
    (blob,) = Blob._get_collection().find()
    assert not {"writer", "writer_until", "expires_at"} & set(blob)


def test_an_upload_ends_after_a_day(streams: Served, blobs: Blobs, ada: Person) -> None:
    path = begin(streams, ada).headers["location"]
    (blob,) = Blob._get_collection().find()
    assert timedelta(hours=23) < blob["expires_at"] - now() <= timedelta(hours=24)
    Blob._get_collection().update_one({}, {"$set": {"expires_at": now()}})
    assert patch(streams, ada, path, 0, BODY).status == 404
    assert Uploads(REGISTRY, blobs, 2**30).sweep() == 1


def test_an_upload_is_its_accounts_own(streams: Served, ada: Person, bob: Person) -> None:
    path = begin(streams, ada).headers["location"]
    assert ask(streams, bob, "HEAD", path).status == 404
    assert patch(streams, bob, path, 0, BODY).status == 404
    assert ask(streams, bob, "DELETE", path).status == 404
    assert streams.ask("HEAD", path, "", **VERSION).status == 401


def test_what_is_spoken_here_is_told(serve: Any, ada: Person) -> None:
    with serve(FILES_BYTES=1000, FILES_ACCOUNT_BYTES=1500) as streams:
        told = streams.ask("OPTIONS", "/v1/uploads")
        assert (told.status, told.headers["tus-version"], told.headers["tus-max-size"]) == (204, "1.0.0", "1000")
        assert told.headers["tus-extension"] == "creation,creation-with-upload,expiration,checksum,termination"
        assert begin(streams, ada, 1001).json["code"] == "too_large"
        assert begin(streams, ada, 1000).status == 201
        assert begin(streams, ada, 501).json["code"] == "quota_exceeded"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"tus_resumable": "0.2.2"}, 412),
        ({"upload_length": ""}, 400),
        ({"upload_length": "-1"}, 400),
        ({"upload_metadata": "filename !"}, 400),
        ({"upload_metadata": f"filename {text(chr(97) * 3100)}"}, 400),
        ({"upload_metadata": f"id {text('..')}"}, 422),
        ({"content_type": "text/plain"}, 415),
        ({"upload_checksum": "crc32 AAAA"}, 400),
    ],
)
def test_what_is_no_tus_is_refused(streams: Served, ada: Person, headers: dict[str, str], status: int) -> None:
    asked = {**ada.headers, **VERSION, **PART, "upload_length": "5", **headers}
    assert streams.begin_body("POST", "/v1/uploads", {}, b"hello", **asked).result().status == status
    assert File._get_collection().count_documents({}) == 0
    assert ada.get("/v1/accounts/me").json["storage"]["used"] == 0
