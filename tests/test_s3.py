"""Bytes in S3, on a real server that speaks it: large files, what goes wrong there, and what is left then."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service.core.errors import NotFound, Overloaded, StorageUnavailable
from service.documents import Blob, BlobChunk, File, Lease
from service.files import uploads as files_uploads
from service.files.blobs import CHUNK_BYTES, BlobPart, Blobs, BytesGone, GridFs
from service.files.check import faults
from service.files.resumable import Resumable
from service.files.s3 import OBJECT_READ_BYTES, S3, Bucket, bucket_from, client_of
from service.files.stores import store_of
from service.files.uploads import COPYING, Uploads
from service.identity import deletion
from service.streams.transfers import MOST_HELD, Transfers
from service.upkeep import backup, file_bytes, indexes
from service.worker.chores import chores
from tests.client import Person
from tests.faults import FaultyProxy
from tests.images import quarters, written
from tests.object_store import keys_in, make_bucket, slow_down, stored_in, url_of
from tests.streaming import Served
from tests.test_files import get, send, used
from tests.test_tus import ask, begin, content, offset_of, patch, started
from tests.types import REGISTRY
from tests.waiting import until

pytestmark = pytest.mark.real

STEP = S3.step
LARGE = hashlib.shake_128(b"large").digest(2 * STEP + 12_345)
LIMIT = 2**30
JPEG = written(quarters(), "JPEG")


@pytest.fixture
def store_settings(folder_url: str) -> dict[str, Any]:
    return {"FILES_URL": folder_url}


def uploads(blobs: Blobs) -> Uploads:
    return Uploads(REGISTRY, blobs, LIMIT)


def is_whole(blobs: S3) -> bool:
    """Whether nothing is wrong, and nothing more is there than one object for each file."""
    files = File._get_collection().count_documents({})
    return list(faults(blobs, content=True)) == [] and stored_in(blobs) == (files, files)


# Large ones


def test_a_large_file_is_one_object_of_some_parts(streams: Served, blobs: S3, ada: Person) -> None:
    path = begin(streams, ada, len(LARGE)).headers["location"]
    last = patch(streams, ada, path, 0, LARGE)
    assert (last.status, last.headers["upload-offset"]) == (204, str(len(LARGE)))
    id = last.headers["x-file-id"]
    record = ada.get(f"/v1/files/{id}").json
    assert (record["size"], record["sha256"]) == (len(LARGE), hashlib.sha256(LARGE).hexdigest())
    assert content(streams, ada, id) == LARGE
    pieces = ((STEP - 2, STEP + 2), (OBJECT_READ_BYTES - 1, 2 * OBJECT_READ_BYTES + 1), (len(LARGE) - 1, len(LARGE)))
    for first, stop in pieces:
        assert get(streams, ada, id, range=f"bytes={first}-{stop - 1}").body == LARGE[first:stop]
    assert is_whole(blobs)
    assert not {"multipart", "parts"} & set(Blob._get_collection().find_one())


def test_what_is_no_whole_part_waits_in_mongodb(streams: Served, blobs: S3, ada: Person) -> None:
    path = begin(streams, ada, len(LARGE)).headers["location"]
    position = 0
    for size in (100, CHUNK_BYTES + 7, STEP - 1000, STEP // 2, 5000):
        sent = patch(streams, ada, path, position, LARGE[position : position + size])
        position += size
        assert (sent.status, offset_of(streams, ada, path)) == (204, position)
    # Of the first parts nothing waits any more, once somebody has gone on behind them.
    waiting = BlobChunk._get_collection().count_documents({})
    assert waiting <= 2 * (STEP // CHUNK_BYTES)
    last = patch(streams, ada, path, position, LARGE[position:])
    assert content(streams, ada, last.headers["x-file-id"]) == LARGE
    assert is_whole(blobs)


def test_a_client_that_breaks_off_and_another_server_go_on(serve: Any, blobs: S3, ada: Person) -> None:
    with serve() as one:
        path = begin(one, ada, len(LARGE)).headers["location"]
        stop = STEP + 300_000
        broken = started(one, ada, path, 0, LARGE[:stop], whole=False)
        until(lambda: Blob._get_collection().find_one({"length": {"$gte": STEP}}))
        broken.hang_up()
        broken.done.result(20)
        assert offset_of(one, ada, path) == stop
    with serve() as other:
        last = patch(other, ada, path, stop, LARGE[stop:])
        record = ada.get(f"/v1/files/{last.headers['x-file-id']}").json
        assert record["sha256"] == hashlib.sha256(LARGE).hexdigest()
        assert content(other, ada, record["id"]) == LARGE
    assert is_whole(blobs)


def test_a_part_with_a_wrong_checksum_gives_way_to_the_right_one(streams: Served, blobs: S3, ada: Person) -> None:
    path = begin(streams, ada, len(LARGE)).headers["location"]
    patch(streams, ada, path, 0, LARGE[:100])
    wrong = patch(streams, ada, path, 100, LARGE[:-101] + b"x", upload_checksum=f"md5 {'A' * 22}==")
    assert (wrong.status, offset_of(streams, ada, path)) == (460, 100)
    last = patch(streams, ada, path, 100, LARGE[100:])
    assert content(streams, ada, last.headers["x-file-id"]) == LARGE
    assert is_whole(blobs)


@pytest.mark.parametrize("known", [0, 100, STEP, STEP + 100])
def test_somebody_killed_after_the_last_part_and_before_the_file_goes_on(
    streams: Served, blobs: S3, ada: Person, monkeypatch: pytest.MonkeyPatch, known: int
) -> None:
    path = begin(streams, ada, len(LARGE)).headers["location"]
    if known:
        patch(streams, ada, path, 0, LARGE[:known])

    def killed(*_args: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(Resumable, "finish", killed)
        assert patch(streams, ada, path, known, LARGE[known:]).status == 500
    # The client may go on with other bytes, as it may in MongoDB.
    other = LARGE[:known] + LARGE[known:][::-1]
    told = offset_of(streams, ada, path)
    assert told >= known
    whole = LARGE[:told] + other[told:] if told == known else LARGE
    last = patch(streams, ada, path, told, whole[told:])
    assert content(streams, ada, last.headers["x-file-id"]) == whole
    assert is_whole(blobs)


def test_a_direct_upload_may_have_several_parts_too(streams: Served, blobs: S3, ada: Person) -> None:
    png = written(quarters(), "PNG")
    body = png + bytes(STEP)
    made = send(streams, ada, body)
    assert (made.status, made.json["size"], made.json["width"]) == (201, len(body), quarters().width)
    assert get(streams, ada, made.json["id"]).body == body
    assert is_whole(blobs)


def test_smaller_images_are_kept_and_go_with_their_file(streams: Served, blobs: S3, ada: Person) -> None:
    made = send(streams, ada, JPEG).json
    first = get(streams, ada, made["id"], "size=thumb")
    assert (first.status, first.headers["content-type"]) == (200, "image/webp")
    assert stored_in(blobs) == (2, 2)
    assert get(streams, ada, made["id"], "size=thumb").body == first.body
    ada.delete(f"/v1/files/{made['id']}")
    assert uploads(blobs).sweep() == 2
    assert stored_in(blobs) == (0, 0)


def test_a_deleted_account_leaves_no_byte_in_the_bucket(streams: Served, blobs: S3, ada: Person) -> None:
    send(streams, ada, JPEG)
    path = begin(streams, ada, len(LARGE)).headers["location"]
    patch(streams, ada, path, 0, LARGE[: STEP + 100])
    assert len(keys_in(blobs)) == 2
    assert ada.delete("/v1/accounts/me").status_code == 204
    deletion.sweep(REGISTRY, timedelta())
    uploads(blobs).sweep()
    assert stored_in(blobs) == (0, 0)


def test_a_file_is_no_larger_than_can_be_copied_at_once(serve: Any, ada: Person) -> None:
    with serve(FILES_BYTES=2**40, FILES_ACCOUNT_BYTES=2**41) as streams:
        assert streams.ask("OPTIONS", "/v1/uploads").headers["tus-max-size"] == str(5 * 2**30)
        assert begin(streams, ada, 5 * 2**30 + 1).json["code"] == "too_large"


# What goes wrong


Trouble = Callable[[str, str], str]


@contextmanager
def troubled(serve: Any, folder_url: str, choose: Trouble) -> Iterator[Served]:
    """The streams with a store that does as `choose` says."""
    found = bucket_from(folder_url)
    port = int(str(found.endpoint).rsplit(":", 1)[1])
    with FaultyProxy(port, choose, refusal=slow_down) as proxy:
        url = f"s3://{found.name}/{found.prefix}?endpoint={proxy.url}"
        with serve(FILES_URL=url) as streams:
            yield streams


@pytest.mark.parametrize("fault", ["503", "400", "lost before"])
def test_a_store_that_fails_is_503_and_leaves_nothing_half_done(
    serve: Any, blobs: S3, folder_url: str, ada: Person, fault: str
) -> None:
    fails = [False]
    with troubled(serve, folder_url, lambda _method, _path: fault if fails[0] else "") as streams:
        kept = send(streams, ada, b"kept").json["id"]
        path = begin(streams, ada, len(LARGE)).headers["location"]
        patch(streams, ada, path, 0, LARGE[:STEP])
        fails[0] = True
        answers = [
            send(streams, ada, b"hello"),
            get(streams, ada, kept),
            patch(streams, ada, path, STEP, LARGE[STEP:]),
            begin(streams, ada, 5, b"hello"),
        ]
        assert {(one.status, one.json["code"], one.headers["retry-after"]) for one in answers} == {
            (503, "storage_unavailable", "5")
        }
        assert File._get_collection().count_documents({}) == 1
        assert used(ada) == 4 + len(LARGE)
        fails[0] = False
        assert get(streams, ada, kept).body == b"kept"
        told = offset_of(streams, ada, path)
        last = patch(streams, ada, path, told, LARGE[told:])
        assert content(streams, ada, last.headers["x-file-id"]) == LARGE
    uploads(blobs).sweep()
    assert is_whole(blobs)


@pytest.mark.parametrize("fault", ["503", "lost before", "lost after", "cut"])
def test_what_fails_once_is_tried_again(serve: Any, blobs: S3, folder_url: str, ada: Person, fault: str) -> None:
    seen: dict[tuple[str, str], int] = {}

    def first_time(method: str, path: str) -> str:
        seen[method, path] = seen.get((method, path), 0) + 1
        return fault if seen[method, path] == 1 else ""

    with troubled(serve, folder_url, first_time) as streams:
        path = begin(streams, ada, len(LARGE)).headers["location"]
        last = patch(streams, ada, path, 0, LARGE)
        assert last.status == 204
        seen.clear()
        assert get(streams, ada, last.headers["x-file-id"], range="bytes=0-9").body == LARGE[:10]
    assert list(faults(blobs, content=True)) == []
    # A multipart upload that was begun by a request whose answer was lost is nobody's.
    list(blobs.strays(timedelta()))
    assert is_whole(blobs)


def test_a_bucket_that_is_gone_is_503(serve: Any, ada: Person, object_store_port: int) -> None:
    make_bucket(object_store_port, "going")
    url = url_of(object_store_port, "", "going")
    with serve(FILES_URL=url) as streams:
        id = send(streams, ada, b"hello").json["id"]
        client = client_of(bucket_from(url))
        client.delete_object(Bucket="going", Key=Blob._get_collection().find_one({"file": id})["_id"])
        assert get(streams, ada, id).json["code"] == "not_found"
        client.delete_bucket(Bucket="going")
        assert get(streams, ada, id).json["code"] == "storage_unavailable"
        assert send(streams, ada, b"hello").json["code"] == "storage_unavailable"
    assert used(ada) == 5
    assert File._get_collection().count_documents({}) == 1


def test_parts_that_are_gone_end_the_upload(streams: Served, blobs: S3, ada: Person) -> None:
    path = begin(streams, ada, len(LARGE)).headers["location"]
    patch(streams, ada, path, 0, LARGE[:STEP])
    blob = Blob._get_collection().find_one()
    blobs.abort(blob["_id"], blob["multipart"])
    sent = patch(streams, ada, path, STEP, LARGE[STEP:])
    assert (sent.status, sent.json["code"]) == (404, "not_found")
    assert ask(streams, ada, "HEAD", path).status == 404
    assert used(ada) == 0


def test_no_credentials_are_told_in_the_log(
    serve: Any, ada: Person, folder_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "four-red-boats")
    with serve(FILES_URL=folder_url) as streams:
        assert send(streams, ada, b"hello").json["code"] == "storage_unavailable"
    said = capsys.readouterr().out
    assert '"reason":"SignatureDoesNotMatch"' in said
    assert "boats" not in said


def test_uploads_hold_so_many_bytes_in_memory_together(blobs: S3) -> None:
    transfers = Transfers()
    with ExitStack() as stack:
        for number in range(MOST_HELD // blobs.part):
            stack.enter_context(transfers.coming(f"a{number}", blobs.part))
        with pytest.raises(Overloaded), transfers.coming("another", blobs.part):
            pass
    assert transfers.held == 0
    with transfers.coming("another", blobs.part):
        assert transfers.held == blobs.part


# What is left


def test_an_object_of_nobody_is_found_and_goes_after_a_day(
    blobs: S3, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs.send("nobody", 0, b"hello", True)
    upload = blobs.asked("create_multipart_upload", Key=blobs.key("nobody-else"))["UploadId"]
    assert upload
    assert [(fault.kind, fault.id) for fault in faults(blobs)] == [("bytes", "nobody")]
    blobs.asked("create_multipart_upload", Key=blobs.key("nobody-else"))
    assert uploads(blobs).sweep_strays() == 0
    assert len(keys_in(blobs)) == 2
    monkeypatch.setattr(files_uploads, "STRAY_FOR", timedelta())
    assert uploads(blobs).sweep_strays() == 1
    assert keys_in(blobs) == []


def test_what_waits_in_mongodb_is_no_stray_while_a_restore_brings_it_back(blobs: S3, ada: Person) -> None:
    """A restore names its collections one after the other: chunks may be there before their blobs."""
    GridFs().keep("restored", BlobPart(0, b"hello"))
    for store in (blobs, GridFs()):
        assert uploads(store).sweep_strays() == 0
        assert [(fault.kind, fault.id) for fault in faults(store)] == [("bytes", "restored")]
    assert BlobChunk._get_collection().count_documents({}) == 1


def test_only_where_bytes_are_in_a_bucket_a_worker_looks_for_strays(
    test_settings: dict[str, Any], folder_url: str
) -> None:
    names = [{one.name for one in chores({**test_settings, "FILES_URL": url}, REGISTRY)} for url in ("", folder_url)]
    assert ["strays" in found for found in names] == [False, True]
    assert all("bytes" in found for found in names)


def test_a_sweep_that_finds_no_store_comes_again(blobs: S3, streams: Served, ada: Person) -> None:
    id = send(streams, ada, b"hello").json["id"]
    ada.delete(f"/v1/files/{id}")
    away = S3(Bucket("not-there", "", None, None), blobs.client)
    with pytest.raises(StorageUnavailable):
        uploads(away).sweep()
    assert stored_in(blobs) == (1, 1)
    assert uploads(blobs).sweep() == 1
    assert stored_in(blobs) == (0, 0)


def test_bytes_that_come_after_the_sweep_of_their_blob_go_too(blobs: S3, ada: Person) -> None:
    late = uploads(blobs).begin(ada.id, 5)
    Blob._get_collection().delete_many({})
    blobs.send(late.id, 0, b"hello", True)
    uploads(blobs).give_up(late)
    assert keys_in(blobs) == []


def test_nobody_without_credentials_reads_or_lists_the_bucket(blobs: S3, streams: Served, ada: Person) -> None:
    send(streams, ada, b"hello")
    from urllib.error import HTTPError
    from urllib.request import urlopen

    for path in (
        f"/{blobs.bucket.name}",
        f"/{blobs.bucket.name}?list-type=2",
        f"/{blobs.bucket.name}/{keys_in(blobs)[0]}",
    ):
        with pytest.raises(HTTPError, match="403"):
            urlopen(f"{blobs.bucket.endpoint}{path}")


def test_the_settings_name_the_store() -> None:
    assert isinstance(store_of({"FILES_URL": ""}), GridFs)
    assert bucket_from("s3://photos") == Bucket("photos", "", None, None)
    whole = bucket_from("s3://photos/of/us/?endpoint=https://s3.example.com:9000&region=eu-1")
    assert whole == Bucket("photos", "of/us/", "https://s3.example.com:9000", "eu-1")
    client = client_of(bucket_from("s3://photos?region=eu-central-1"))
    assert client.meta.endpoint_url == "https://s3.eu-central-1.amazonaws.com"


def test_the_store_says_what_is_not_there(blobs: S3) -> None:
    with pytest.raises(BytesGone):
        blobs.read("nobody", 0, 10)
    blobs.send("short", 0, b"hello", True)
    with pytest.raises(BytesGone):
        blobs.read("short", 5, 10)
    assert (blobs.size("nobody"), blobs.size("short")) == (None, 5)
    with pytest.raises(NotFound):
        blobs.send("nobody", STEP, bytes(STEP), True)
    with pytest.raises(StorageUnavailable):
        S3(Bucket("not-there", "", None, None), blobs.client).delete("nobody")


# Backups


def nothing_to_say(*_args: Any) -> None:
    return


def empty_database() -> None:
    for document in indexes.document_classes(REGISTRY):
        document._get_collection().delete_many({})


@pytest.mark.parametrize("into", ["mongodb", "s3"])
def test_a_backup_has_the_bytes_for_either_store(
    streams: Served, blobs: S3, ada: Person, folder_url: str, tmp_path: Path, into: str
) -> None:
    id = send(streams, ada, b"hello").json["id"]
    small = begin(streams, ada, 100, b"half").headers["location"]
    for path, body in ((begin(streams, ada, len(LARGE)).headers["location"], LARGE), (small, b"half")):
        patch(streams, ada, path, 0 if body is LARGE else 4, body)
    under_way = begin(streams, ada, len(LARGE)).headers["location"]
    patch(streams, ada, under_way, 0, LARGE[: STEP + 9])
    backup.backup(REGISTRY, blobs, tmp_path / "backup", nothing_to_say)
    assert not Lease.is_taken(COPYING)
    empty_database()
    there = GridFs() if into == "mongodb" else store_of({"FILES_URL": folder_url.replace("?", "/other?")})
    backup.restore(REGISTRY, there, tmp_path / "backup", nothing_to_say)
    Uploads(REGISTRY, there, LIMIT).sweep()
    assert list(faults(there, content=True)) == []
    files = {record["size"]: record for record in File._get_collection().find()}
    assert set(files) == {5, len(LARGE)}
    assert files[5]["_id"] == id
    whole, record = b"", files[len(LARGE)]
    while len(whole) < len(LARGE):
        whole += there.read(record["blob"], len(whole), len(LARGE))
    assert whole == LARGE
    # Of what was under way there is what waited in MongoDB; the parts in the bucket are nobody's.
    unfinished = Blob._get_collection().find({"file": None}, {"length": 1})
    assert [row["length"] for row in unfinished] == [8]
    if into == "s3":
        assert stored_in(there) == (3, 3)


def test_no_sweep_takes_away_what_a_backup_copies(blobs: S3, streams: Served, ada: Person) -> None:
    id = send(streams, ada, b"hello").json["id"]
    with file_bytes.copying(blobs):
        assert ada.delete(f"/v1/files/{id}").status_code == 204
        assert uploads(blobs).sweep() == 0
        assert len(keys_in(blobs)) == 1
    assert uploads(blobs).sweep() == 1
    assert keys_in(blobs) == []


def test_a_file_whose_bytes_are_lost_does_not_keep_a_backup_from_the_others(
    streams: Served, blobs: S3, ada: Person, tmp_path: Path
) -> None:
    lost, kept = (send(streams, ada, body).json["id"] for body in (b"lost", b"kept"))
    blobs.delete(Blob._get_collection().find_one({"file": lost})["_id"])
    backup.backup(REGISTRY, blobs, tmp_path / "backup", nothing_to_say)
    empty_database()
    backup.restore(REGISTRY, blobs, tmp_path / "backup", nothing_to_say)
    assert [(fault.kind, fault.id) for fault in faults(blobs)] == [("file", lost)]
    assert blobs.read(File._get_collection().find_one({"_id": kept})["blob"], 0, 10) == b"kept"
