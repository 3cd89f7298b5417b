"""Files: they come by one request, their bytes go in whole or in ranges, and each byte is counted."""

import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from pymongo.errors import AutoReconnect, NetworkTimeout

from service.core.clock import now
from service.core.errors import Overloaded
from service.documents import Blob, File, KeptAnswer
from service.files.blobs import CHUNK_BYTES, Blobs
from service.files.check import faults
from service.files.uploads import Uploads
from service.identity import deletion, guests
from tests.client import Person
from tests.images import quarters, written
from tests.object_store import put, stored_in
from tests.racing import at_once
from tests.streaming import Sent, Served
from tests.types import REGISTRY
from tests.waiting import until

LIMIT = 8 * 1024 * 1024
TEXT = {"content_type": "text/plain", "content_disposition": 'attachment; filename="a.txt"'}
PNG = written(quarters(), "PNG")


@pytest.fixture(params=["mongodb", pytest.param("s3", marks=pytest.mark.real)])
def store_settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Every test here is one of both stores."""
    return {"FILES_URL": request.getfixturevalue("folder_url")} if request.param == "s3" else {}


def send(streams: Served, person: Person, body: bytes, **headers: str) -> Sent:
    """Upload bare bytes."""
    asked = {"authorization": person.headers["Authorization"], **TEXT, **headers}
    return streams.post("/v1/files", {}, body, **asked)


def form(streams: Served, person: Person, *parts: tuple[str, str | None, bytes], key: str | None = None) -> Sent:
    """Upload a form of parts: name, file name if it is a file, content."""
    body = b""
    for name, filename, content in parts:
        named = f'; filename="{filename}"' if filename is not None else ""
        body += f'--x\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content + b"\r\n"
    kind = "multipart/form-data; boundary=x"
    again = {} if key is None else {"idempotency_key": key}
    return send(streams, person, body + b"--x--\r\n", content_type=kind, content_disposition="", **again)


def get(streams: Served, person: Person, id: str, query: str = "", method: str = "GET", **headers: str) -> Sent:
    return streams.ask(method, f"/v1/files/{id}/content", query, **{**person.headers, **headers})


def used(person: Person) -> int:
    return int(person.get("/v1/accounts/me").json["storage"]["used"])


def sweep(blobs: Blobs) -> int:
    return Uploads(REGISTRY, blobs, LIMIT).sweep()


# They come


def test_bare_bytes_become_a_file(streams: Served, ada: Person) -> None:
    sent = send(streams, ada, b"hello")
    assert sent.status == 201
    assert sent.headers["location"] == f"/v1/files/{sent.json['id']}"
    assert sent.headers["etag"] == '"1"'
    told = {name: sent.json[name] for name in ("name", "media_type", "size", "sha256", "owner", "width", "height")}
    assert told == {
        "name": "a.txt",
        "media_type": "text/plain",
        "size": 5,
        "sha256": hashlib.sha256(b"hello").hexdigest(),
        "owner": ada.id,
        "width": None,
        "height": None,
    }
    assert ada.get(sent.headers["location"]).json == sent.json
    assert ada.get("/v1/files").json["items"] == [sent.json]


def test_a_form_brings_fields_beside_the_file(streams: Served, ada: Person, bob: Person) -> None:
    sent = form(
        streams,
        ada,
        ("id", None, b"mine"),
        ("readers", None, bob.id.encode()),
        ("file", r"C:\photos\cat.png", PNG),
        ("name", None, "고양이.png".encode()),
    )
    assert (sent.status, sent.json["id"], sent.json["readers"]) == (201, "mine", [bob.id])
    assert (sent.json["name"], sent.json["media_type"], sent.json["size"]) == ("고양이.png", "image/png", len(PNG))
    assert get(streams, bob, "mine").body == PNG


def test_a_form_may_name_several_readers_in_both_ways(streams: Served, ada: Person) -> None:
    one = form(streams, ada, ("readers", None, b'["role:a","role:b"]'), ("file", "a", b"1"))
    other = form(streams, ada, ("readers", None, b"role:a"), ("readers", None, b"role:b"), ("file", "a", b"1"))
    assert one.json["readers"] == other.json["readers"] == ["role:a", "role:b"]


def test_large_bytes_come_part_by_part(streams: Served, blobs: Blobs, ada: Person) -> None:
    body = bytes(range(256)) * (5 * CHUNK_BYTES // 256) + b"end"
    sent = send(streams, ada, body)
    assert (sent.status, sent.json["size"]) == (201, len(body))
    assert sent.json["sha256"] == hashlib.sha256(body).hexdigest()
    assert get(streams, ada, sent.json["id"]).body == body
    assert stored_in(blobs) == (1, 6 if blobs.in_mongodb else 1)
    assert used(ada) == len(body)


def test_a_form_may_be_as_large_as_any_upload(streams: Served, ada: Person) -> None:
    body = bytes(range(256)) * (5 * CHUNK_BYTES // 256)
    sent = form(streams, ada, ("file", "a", body), ("name", None, b"b"))
    assert (sent.status, sent.json["size"], sent.json["name"]) == (201, len(body), "b")
    assert get(streams, ada, sent.json["id"]).body == body


@pytest.mark.parametrize("kind", ["Multipart/Form-Data; boundary=x", "MULTIPART/FORM-DATA; BOUNDARY=x"])
def test_a_form_is_one_however_its_type_is_written(streams: Served, ada: Person, kind: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhello\r\n--x--\r\n'
    sent = send(streams, ada, body, content_type=kind, content_disposition="")
    assert (sent.status, sent.json["size"], sent.json["name"]) == (201, 5, "a")
    assert get(streams, ada, sent.json["id"]).body == b"hello"


def test_nothing_is_a_file_too(streams: Served, ada: Person) -> None:
    sent = send(streams, ada, b"")
    assert (sent.status, sent.json["size"], sent.json["media_type"]) == (201, 0, "text/plain")
    answer = get(streams, ada, sent.json["id"])
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ([("name", None, b"a")], 422, "validation_failed"),
        ([("file", "a", b"1"), ("file", "b", b"2")], 422, "validation_failed"),
        ([("file", "a", b"1"), ("size", None, b"9")], 422, "validation_failed"),
        ([("file", "a", b"1"), ("unknown", None, b"9")], 422, "validation_failed"),
        ([("file", "a", b"1"), ("id", None, b"..")], 422, "validation_failed"),
        ([("file", "a" * 256, b"1")], 422, "validation_failed"),
        ([("file", "a", b"1"), ("readers", None, b"[nonsense")], 400, "malformed_json"),
        ([("file", "a", b"1"), ("name", None, b"a" * 70_000)], 413, "too_large"),
    ],
)
def test_a_form_that_makes_no_file_is_refused(
    streams: Served, blobs: Blobs, ada: Person, parts: Any, status: int, code: str
) -> None:
    sent = form(streams, ada, *parts)
    assert (sent.status, sent.json["code"]) == (status, code)
    sweep(blobs)
    assert (stored_in(blobs), used(ada)) == ((0, 0), 0)


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("multipart/form-data", b"", 400),
        ("multipart/form-data; boundary=x", b"--x\r\n", 400),
        ("multipart/form-data; boundary=x", b"nonsense", 400),
        ("multipart/form-data; boundary=\xe9", b"nonsense", 400),
        ("multipart/mixed; boundary=x", b"", 415),
        ("Multipart/Mixed; boundary=x", b"--x--", 415),
        ("Application/JSON", b"{}", 415),
        ("application/x-www-form-urlencoded", b"a=1", 415),
        ("application/json", b"{}", 415),
    ],
)
def test_a_body_that_is_no_file_is_refused(streams: Served, ada: Person, kind: str, body: bytes, status: int) -> None:
    asked = {"authorization": ada.headers["Authorization"], "content_type": kind}
    assert streams.post("/v1/files", {}, body, **asked).status == status


def test_an_id_that_is_taken_is_told_and_costs_nothing(streams: Served, blobs: Blobs, ada: Person) -> None:
    form(streams, ada, ("id", None, b"mine"), ("file", "a", b"12345"))
    sent = form(streams, ada, ("id", None, b"mine"), ("file", "a", b"67890"))
    assert (sent.status, sent.json["code"]) == (409, "already_exists")
    sweep(blobs)
    assert used(ada) == 5
    assert get(streams, ada, "mine").body == b"12345"


def test_who_is_not_signed_in_uploads_and_reads_nothing(streams: Served, ada: Person) -> None:
    id = send(streams, ada, b"hello").json["id"]
    assert streams.post("/v1/files", {}, b"hello").status == 401
    assert streams.ask("GET", f"/v1/files/{id}/content").status == 401


def test_too_large_a_file_is_refused_whatever_it_says_of_its_length(serve: Any, ada: Person) -> None:
    with serve(FILES_DIRECT_BYTES=1000) as streams:
        assert send(streams, ada, bytes(1000)).status == 201
        assert send(streams, ada, bytes(1001)).json["code"] == "too_large"
        assert send(streams, ada, bytes(1001), content_length="0", transfer_encoding="chunked").status == 413
        assert form(streams, ada, ("file", "a", bytes(1001))).status == 413
    assert used(ada) == 1000


def test_a_client_that_goes_leaves_nothing(streams: Served, blobs: Blobs, ada: Person) -> None:
    body, told = bytes(blobs.part + CHUNK_BYTES), blobs.part + 2 * CHUNK_BYTES
    asked = {"content_length": str(told), **ada.headers, **TEXT}
    one = streams.begin_body("POST", "/v1/files", {}, body, whole=False, **asked)
    until(lambda: Blob._get_collection().find_one({"length": blobs.part}))
    assert used(ada) == told
    one.hang_up()
    until(lambda: used(ada) == 0)
    sweep(blobs)
    assert stored_in(blobs) == (0, 0)


def test_a_body_that_does_not_come_is_not_waited_for(serve: Any, blobs: Blobs, ada: Person) -> None:
    with serve(CLIENT_TIMEOUT=0.2) as streams:
        asked = {"content_length": "10", **ada.headers, **TEXT}
        sent = streams.begin_body("POST", "/v1/files", {}, b"half", whole=False, **asked).result()
    assert (sent.status, sent.json["code"], sent.headers["connection"]) == (408, "request_timeout", "close")
    assert (stored_in(blobs), used(ada)) == ((0, 0), 0)


def test_an_upload_that_is_swept_away_at_its_end_is_not_there(
    streams: Served, blobs: Blobs, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = type(blobs).send

    def and_swept(self: Blobs, blob: str, start: int, data: bytes, last: bool) -> Any:
        part = store(self, blob, start, data, last)
        if last:
            Blob._get_collection().update_one({"_id": blob}, {"$set": {"expires_at": now()}})
            assert sweep(self) == 1
        return part

    with monkeypatch.context() as patched:
        patched.setattr(type(blobs), "send", and_swept)
        sent = send(streams, ada, bytes(blobs.part + 100))
    assert (sent.status, sent.json["code"], used(ada)) == (404, "not_found", 0)
    assert stored_in(blobs) == (0, 0)


# Nobody else makes one


def test_json_makes_no_file(ada: Person) -> None:
    assert ada.post("/v1/files", {"name": "a"}).json["code"] == "not_supported"
    assert ada.put("/v1/files/mine", {"name": "a"}).json["code"] == "forbidden"
    assert ada.put("/v1/files/mine", {"name": "a"}, headers={"If-None-Match": "*"}).json["code"] == "forbidden"
    answer = ada.post("/v1/batch", {"requests": [{"method": "PUT", "path": "/v1/files/mine", "body": {"name": "a"}}]})
    assert answer.json["responses"][0]["status"] == 403
    assert File._get_collection().count_documents({}) == 0


def test_a_file_is_renamed_and_nothing_else(streams: Served, ada: Person) -> None:
    made = send(streams, ada, b"hello").json
    path = f"/v1/files/{made['id']}"
    assert ada.patch(path, {"name": "b.txt"}).json["name"] == "b.txt"
    assert ada.put(path, {"name": "c.txt"}).json == ada.get(path).json
    for name, value in (("size", 1), ("sha256", "0"), ("media_type", "text/html"), ("width", 1), ("blob", "x")):
        assert ada.patch(path, {name: value}).status_code == 422
        assert ada.put(path, {"name": "c.txt", name: value}).status_code == 422
    assert get(streams, ada, made["id"]).body == b"hello"


# They come again


def keyed(streams: Served, person: Person, body: bytes, key: str = "k1", **more: str) -> Sent:
    return send(streams, person, body, idempotency_key=key, **more)


def test_an_upload_that_is_sent_again_is_one_file(streams: Served, blobs: Blobs, ada: Person, bob: Person) -> None:
    first = keyed(streams, ada, b"hello")
    again = keyed(streams, ada, b"hello")
    assert (first.status, first.headers.get("idempotent-replayed")) == (201, None)
    assert (again.status, again.body, again.headers["idempotent-replayed"]) == (201, first.body, "true")
    for name in ("etag", "location", "content-type"):
        assert again.headers[name] == first.headers[name]
    assert (File._get_collection().count_documents({}), used(ada)) == (1, 5)
    assert keyed(streams, bob, b"hello").json["id"] != first.json["id"]
    assert keyed(streams, ada, b"hello", "k2").json["id"] != first.json["id"]
    sweep(blobs)
    assert list(faults(blobs, content=True)) == []


def test_a_large_upload_that_is_sent_again_leaves_nothing_of_itself(streams: Served, blobs: Blobs, ada: Person) -> None:
    body = bytes(blobs.part + 100)
    assert keyed(streams, ada, body).json == keyed(streams, ada, body).json
    assert used(ada) == len(body)
    assert sweep(blobs) == 1
    assert list(faults(blobs, content=True)) == []


@pytest.mark.parametrize(
    ("body", "more"),
    [(b"hallo", {}), (b"hello", {"content_disposition": 'attachment; filename="b.txt"'})],
    ids=["other bytes", "another name"],
)
def test_a_key_is_good_for_one_upload(streams: Served, ada: Person, body: bytes, more: dict[str, str]) -> None:
    keyed(streams, ada, b"hello")
    sent = keyed(streams, ada, body, **more)
    assert (sent.status, sent.json["code"]) == (422, "idempotency_mismatch")
    assert used(ada) == 5


def test_a_key_of_another_request_is_none_of_an_upload(streams: Served, ada: Person) -> None:
    assert ada.post("/v1/notes", {"title": "Milk"}, headers={"Idempotency-Key": "k1"}).status_code == 201
    assert keyed(streams, ada, b"hello").json["code"] == "idempotency_mismatch"
    keyed(streams, ada, b"hello", "k2")
    answer = ada.post("/v1/notes", {"title": "Milk"}, headers={"Idempotency-Key": "k2"})
    assert answer.json["code"] == "idempotency_mismatch"


def test_a_key_whose_answer_is_kept_no_longer_is_as_good_as_new(streams: Served, ada: Person) -> None:
    keyed(streams, ada, b"hello")
    KeptAnswer._get_collection().update_many({}, {"$set": {"expires_at": now() - timedelta(seconds=1)}})
    sent = keyed(streams, ada, b"other")
    assert (sent.status, "idempotent-replayed" in sent.headers) == (201, False)
    assert used(ada) == 10


def test_what_is_no_key_is_refused(streams: Served, ada: Person) -> None:
    for key in ("", "k" * 256, "ä"):
        assert keyed(streams, ada, b"hello", key).json["code"] == "bad_request"
    assert used(ada) == 0


def test_the_first_refusal_comes_again_too(streams: Served, ada: Person) -> None:
    form(streams, ada, ("id", None, b"mine"), ("file", "a", b"1"))
    first, again = (form(streams, ada, ("id", None, b"mine"), ("file", "a", b"2"), key="k1") for _ in range(2))
    assert (first.status, again.status, again.body) == (409, 409, first.body)
    assert again.headers["idempotent-replayed"] == "true"


def test_nobody_has_more_kept_answers_than_they_may(serve: Any, ada: Person) -> None:
    with serve(KEPT_ANSWERS_ACCOUNT_BYTES=2000) as streams:
        told = [keyed(streams, ada, b"hello", f"k{number}").status for number in range(4)]
    assert told == [201, 201, 429, 429]


@pytest.mark.real
def test_of_one_upload_that_comes_many_times_at_once_there_is_one_file(
    streams: Served, blobs: Blobs, ada: Person
) -> None:
    answers = at_once(*[lambda: keyed(streams, ada, b"hello")] * 8)
    assert {sent.status for sent in answers} == {201}
    assert len({sent.body for sent in answers}) == 1
    assert (File._get_collection().count_documents({}), used(ada)) == (1, 5)
    sweep(blobs)
    assert list(faults(blobs, content=True)) == []


# They go


@pytest.fixture
def hundred(streams: Served, ada: Person) -> str:
    """The id of a file with the numbers below 100, two digits each."""
    return str(send(streams, ada, "".join(f"{n:02}" for n in range(100)).encode()).json["id"])


def test_the_whole_comes_with_what_a_device_has_to_know(streams: Served, ada: Person, hundred: str) -> None:
    sent = get(streams, ada, hundred)
    record = ada.get(f"/v1/files/{hundred}").json
    assert (sent.status, len(sent.body)) == (200, 200)
    told = {name: sent.headers[name] for name in EXPECTED if name != "etag"}
    assert told == {name: text for name, text in EXPECTED.items() if name != "etag"}
    assert sent.headers["etag"] == f'"{record["sha256"]}"'
    head = get(streams, ada, hundred, method="HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "200")


EXPECTED = {
    "content-type": "text/plain",
    "content-length": "200",
    "accept-ranges": "bytes",
    "cache-control": "private, no-cache",
    "x-content-type-options": "nosniff",
    "content-disposition": "attachment; filename=\"a.txt\"; filename*=UTF-8''a.txt",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
}


@pytest.mark.parametrize(
    ("asked", "status", "body", "told"),
    [
        ("bytes=0-3", 206, b"0001", "bytes 0-3/200"),
        ("bytes=198-", 206, b"99", "bytes 198-199/200"),
        ("bytes=-4", 206, b"9899", "bytes 196-199/200"),
        ("bytes=198-1000", 206, b"99", "bytes 198-199/200"),
        ("bytes=-1000", 206, 200, "bytes 0-199/200"),
        ("bytes=200-", 416, None, "bytes */200"),
        ("bytes=-0", 416, None, "bytes */200"),
        ("bytes=3-2", 200, 200, None),
        ("bytes=x", 200, 200, None),
        ("bytes=", 200, 200, None),
        ("lines=1-2", 200, 200, None),
        ("bytes=" + ",".join(["0-199"] * 10), 200, 200, None),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(21)), 200, 200, None),
    ],
)
def test_a_range_is_answered_as_http_says(
    streams: Served, ada: Person, hundred: str, asked: str, status: int, body: Any, told: str | None
) -> None:
    sent = get(streams, ada, hundred, range=asked)
    assert (sent.status, sent.headers.get("content-range")) == (status, told)
    if body is not None:
        assert sent.body == body if isinstance(body, bytes) else len(sent.body) == body
        assert sent.headers["content-length"] == str(len(sent.body))
    assert get(streams, ada, hundred, method="HEAD", range=asked).status == 200


def test_several_ranges_come_in_one_answer(streams: Served, ada: Person, hundred: str) -> None:
    sent = get(streams, ada, hundred, range="bytes=0-1, 4-5,-2")
    boundary = sent.headers["content-type"].removeprefix("multipart/byteranges; boundary=")
    parts = sent.body.split(f"--{boundary}".encode())
    assert sent.status == 206
    assert sent.headers["content-length"] == str(len(sent.body))
    assert [part.strip().split(b"\r\n\r\n")[1] for part in parts[1:-1]] == [b"00", b"02", b"99"]
    assert b"Content-Range: bytes 4-5/200" in parts[2]
    assert parts[-1] == b"--\r\n"


def test_what_a_device_has_is_not_sent_again(streams: Served, ada: Person, hundred: str) -> None:
    tag = get(streams, ada, hundred).headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        sent = get(streams, ada, hundred, if_none_match=known)
        assert (sent.status, sent.body, sent.headers["etag"]) == (304, b"", tag)
    assert get(streams, ada, hundred, if_none_match='"other"').status == 200


def test_what_a_device_has_a_part_of_is_that_or_nothing(streams: Served, ada: Person, hundred: str) -> None:
    tag = get(streams, ada, hundred).headers["etag"]
    for named in (tag, f'"other", {tag}', "*"):
        assert get(streams, ada, hundred, if_match=named).status == 200
    for named in ('"other"', f"W/{tag}", ""):
        sent = get(streams, ada, hundred, if_match=named, range="bytes=0-1")
        assert (sent.status, sent.json["code"]) == (412, "revision_mismatch")


def test_a_range_is_of_the_same_content_or_not_a_range(streams: Served, ada: Person, hundred: str) -> None:
    tag = get(streams, ada, hundred).headers["etag"]
    assert get(streams, ada, hundred, range="bytes=0-1", if_range=tag).status == 206
    for other in ('"other"', f"W/{tag}", "Fri, 27 Nov 2026 16:00:00 GMT"):
        assert get(streams, ada, hundred, range="bytes=0-1", if_range=other).status == 200


def test_ranges_cross_the_parts_of_the_store(streams: Served, ada: Person) -> None:
    body = bytes(n * 7 % 251 for n in range(3 * CHUNK_BYTES))
    id = send(streams, ada, body).json["id"]
    for start, stop in ((CHUNK_BYTES - 1, CHUNK_BYTES), (CHUNK_BYTES - 1, 2 * CHUNK_BYTES), (2 * CHUNK_BYTES, None)):
        last = "" if stop is None else stop
        wanted = body[start:] if stop is None else body[start : stop + 1]
        assert get(streams, ada, id, range=f"bytes={start}-{last}").body == wanted


@pytest.mark.parametrize("error", [NetworkTimeout("slow"), AutoReconnect("gone"), Overloaded()])
def test_a_database_that_fails_in_the_middle_cuts_the_answer_off(
    streams: Served,
    blobs: Blobs,
    ada: Person,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    id = send(streams, ada, bytes(2 * CHUNK_BYTES)).json["id"]
    read = type(blobs).read

    def failing(self: Blobs, blob: str, start: int, stop: int) -> bytes:
        if start:
            raise error
        return read(self, blob, start, min(stop, CHUNK_BYTES))

    monkeypatch.setattr(type(blobs), "read", failing)
    cut = get(streams, ada, id)
    assert (cut.status, cut.headers["content-length"], cut.ended) == (200, str(2 * CHUNK_BYTES), False)
    assert cut.body == bytes(CHUNK_BYTES)
    said = capsys.readouterr().out
    assert f'"reason":"{type(error).__name__}"' in said
    assert "internal_error" not in said


def test_who_may_not_read_a_file_does_not_hear_of_it(streams: Served, ada: Person, bob: Person, hundred: str) -> None:
    assert get(streams, bob, hundred).json["code"] == "not_found"
    ada.patch(f"/v1/files/{hundred}", {"readers": [bob.id]})
    assert get(streams, bob, hundred).status == 200
    ada.patch(f"/v1/files/{hundred}", {"readers": []})
    assert get(streams, bob, hundred).status == 404


@pytest.mark.parametrize(
    ("body", "media_type", "shown"),
    [
        (PNG, "image/png", True),
        (b"%PDF-1.7\n", "application/pdf", True),
        (b"GIF89a<script>alert(1)</script>", "image/gif", True),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'></svg>", "image/svg+xml", False),
        (b"<?xml version='1.0'?><!-- --><svg><script>alert(1)</script></svg>", "image/svg+xml", False),
        (b"<!DOCTYPE html><script>alert(1)</script>", "text/html", False),
        (b"just text", "text/plain", False),
        (b"\0\1\2\xff", "application/octet-stream", False),
        ("글".encode()[:2], "text/plain", False),
    ],
    ids=["png", "pdf", "gif", "svg", "xml", "html", "text", "bytes", "half"],
)
def test_what_a_file_is_follows_from_its_bytes(
    streams: Served, ada: Person, body: bytes, media_type: str, shown: bool
) -> None:
    made = send(streams, ada, body, content_type="image/png").json
    assert made["media_type"] == media_type
    sent = get(streams, ada, made["id"], "inline=true")
    assert sent.headers["content-disposition"].split(";")[0] == ("inline" if shown else "attachment")
    assert "default-src 'none'" in sent.headers["content-security-policy"]
    assert "script-src" not in sent.headers["content-security-policy"]
    assert get(streams, ada, made["id"]).headers["content-disposition"].startswith("attachment")


def test_inline_is_true_or_false(streams: Served, ada: Person, hundred: str) -> None:
    assert get(streams, ada, hundred, "inline=yes").json["code"] == "bad_parameter"
    assert get(streams, ada, hundred, "shown=true").json["code"] == "bad_parameter"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "소나무 ä.png",
            "attachment; filename=\"___ _.png\"; filename*=UTF-8''%EC%86%8C%EB%82%98%EB%AC%B4%20%C3%A4.png",
        ),
        ('a"; x="b', "attachment; filename=\"a__ x__b\"; filename*=UTF-8''a%22%3B%20x%3D%22b"),
        ("photo\u202egpj.exe", "attachment; filename=\"photogpj.exe\"; filename*=UTF-8''photogpj.exe"),
        ("a\r\nSet-Cookie: x", "attachment; filename=\"aSet-Cookie_ x\"; filename*=UTF-8''aSet-Cookie%3A%20x"),
        ("../../etc/passwd", "attachment; filename=\"passwd\"; filename*=UTF-8''passwd"),
    ],
)
def test_a_name_cannot_leave_its_header(streams: Served, ada: Person, hundred: str, name: str, told: str) -> None:
    ada.patch(f"/v1/files/{hundred}", {"name": name})
    assert get(streams, ada, hundred).headers["content-disposition"] == told


# What they take


def test_no_account_has_more_than_it_may(serve: Any, ada: Person, bob: Person) -> None:
    with serve(FILES_ACCOUNT_BYTES=1000) as streams:
        made = send(streams, ada, bytes(600)).json
        sent = send(streams, ada, bytes(401))
        assert (sent.status, sent.json["code"]) == (413, "quota_exceeded")
        assert send(streams, ada, bytes(400)).status == 201
        assert send(streams, bob, bytes(1000)).status == 201
        assert send(streams, bob, bytes(1001)).status == 413
        ada.delete(f"/v1/files/{made['id']}")
        assert used(ada) == 400
        assert send(streams, ada, bytes(600)).status == 201


@pytest.mark.real
def test_uploads_at_once_are_counted_exactly(serve: Any, ada: Person) -> None:
    with serve(FILES_ACCOUNT_BYTES=10_000) as streams:
        answers = at_once(*[lambda: send(streams, ada, bytes(1000))] * 20)
    assert sorted(sent.status for sent in answers) == [201] * 10 + [413] * 10
    assert used(ada) == 10_000
    assert File._get_collection().count_documents({}) == 10


def test_bytes_go_with_their_record(streams: Served, blobs: Blobs, ada: Person) -> None:
    made = send(streams, ada, bytes(2 * CHUNK_BYTES)).json
    assert ada.delete(f"/v1/files/{made['id']}").status_code == 204
    assert (get(streams, ada, made["id"]).status, used(ada)) == (404, 0)
    assert sweep(blobs) == 1
    assert stored_in(blobs) == (0, 0)


def test_what_nobody_has_claimed_in_time_goes(streams: Served, blobs: Blobs, ada: Person) -> None:
    uploads = Uploads(REGISTRY, blobs, LIMIT)
    late = uploads.add(uploads.begin(ada.id, 100, timedelta(seconds=-1)), b"late")
    uploads.add(uploads.begin(ada.id, 10), b"young")
    assert used(ada) == 110
    assert uploads.sweep() == 1
    assert (stored_in(blobs), used(ada)) == ((1, 1), 10)
    with pytest.raises(Exception, match="the upload has ended"):
        uploads.add(late, b"more")


def test_a_deleted_account_leaves_no_byte(streams: Served, blobs: Blobs, ada: Person, bob: Person) -> None:
    send(streams, ada, bytes(2 * CHUNK_BYTES))
    kept = send(streams, bob, b"bob's").json
    Uploads(REGISTRY, blobs, LIMIT).begin(ada.id, 10)
    assert ada.delete("/v1/accounts/me").status_code == 204
    deletion.sweep(REGISTRY, timedelta())
    assert sweep(blobs) == 2
    assert stored_in(blobs) == (1, 1)
    assert get(streams, bob, kept["id"]).body == b"bob's"
    with pytest.raises(Exception, match="the account is gone"):
        Uploads(REGISTRY, blobs, LIMIT).begin(ada.id, 10)


def test_the_export_names_the_files(streams: Served, ada: Person) -> None:
    made = send(streams, ada, b"hello").json
    assert json.loads(ada.get("/v1/accounts/me/export").data)["files"] == [made]


# Guests, backups, and the look at all of it


@pytest.mark.real
def test_a_merge_hands_over_files_and_what_they_take(streams: Served, blobs: Blobs, ada: Person, app: Flask) -> None:
    guest = Person(app.test_client())
    tokens = guest.post("/auth/guest").json
    guest.headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    guest.id = guest.get("/v1/accounts/me").json["id"]
    send(streams, ada, b"ada's")
    made = send(streams, guest, b"of a guest").json
    Uploads(REGISTRY, blobs, LIMIT).begin(guest.id, 7)
    assert ada.post("/v1/accounts/me/merge", {"guest_refresh_token": tokens["refresh_token"]}).status_code == 202
    guests.go_on_merging(REGISTRY, timedelta(), timedelta(days=1))
    assert get(streams, ada, made["id"]).body == b"of a guest"
    assert used(ada) == 15
    deletion.sweep(REGISTRY, timedelta())
    assert sweep(blobs) == 1
    assert list(faults(blobs, content=True)) == []


def test_a_check_finds_what_does_not_fit_together(streams: Served, blobs: Blobs, ada: Person) -> None:
    made = [send(streams, ada, bytes(CHUNK_BYTES) + bytes([n])).json["id"] for n in range(4)]
    assert list(faults(blobs, content=True)) == []
    ids = {row["file"]: row["_id"] for row in Blob._get_collection().find()}
    Blob._get_collection().delete_one({"_id": ids[made[0]]})
    File._get_collection().delete_one({"_id": made[1]})
    blobs.delete(ids[made[2]])
    put(blobs, ids[made[3]], bytes(CHUNK_BYTES) + b"x")
    found = {(fault.kind, fault.id) for fault in faults(blobs, content=True)}
    assert found == {
        ("file", made[0]),
        ("file", made[2]),
        ("file", made[3]),
        ("blob", ids[made[1]]),
        ("bytes", ids[made[0]]),
        ("account", ada.id),
    }


def test_the_command_says_what_does_not_fit_together(
    streams: Served,
    blobs: Blobs,
    store_settings: dict[str, Any],
    ada: Person,
    app: Flask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(app.config, "FILES_URL", store_settings.get("FILES_URL", ""))
    id = send(streams, ada, b"hello").json["id"]
    runner = app.test_cli_runner()
    whole = runner.invoke(args=["files", "check"])
    assert (whole.exit_code, whole.output) == (0, "every file has its bytes, and every byte its file\n")
    blobs.delete(Blob._get_collection().find_one()["_id"])
    broken = runner.invoke(args=["files", "check"])
    assert broken.exit_code == 1
    assert f"file {id}: 0 bytes of 5 are there" in broken.output
    assert get(streams, ada, id).json["code"] == "not_found"
