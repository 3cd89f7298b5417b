"""Files of a service as it is started, through its door: a quota that is exact, and files in all that knows records."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import ROOT
from tests.racing import at_once
from tests.test_processes import LIMITS, is_ready
from tests.test_run import ADA, Running, running, token_of
from tests.trees import another_database, emptied, flask
from tests.waiting import until

pytestmark = pytest.mark.real

UPLOADS, BYTES = 50, 1000
BOB = {**ADA, "username": "bob"}
AGAIN = 503
"""What tells that another try may go through: so many meet on one account."""


@pytest.fixture(scope="module")
def uris(mongodb_uri: str) -> list[str]:
    return [another_database(mongodb_uri, name) for name in ("files", "filesback")]


@pytest.fixture(scope="module")
def service(uris: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = {**LIMITS, "FILES_ACCOUNT_BYTES": str(20 * BYTES), "JWT_EXPIRATION_DELTA": "3600"}
    var = tmp_path_factory.mktemp("var")
    with (
        emptied(uris[0]),
        emptied(uris[1]),
        running(var, "--workers", "1", MONGODB_URI=uris[0], **limits) as found,
    ):
        assert until(lambda: is_ready(found))
        for account in (ADA, BOB):
            assert found.send("POST", "/v1/accounts", account).status_code == 201
        yield found


def asked(service: Running, method: str, path: str, token: str, **more: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}", "Connection": "close", **more.pop("headers", {})}
    return requests.request(method, f"http://127.0.0.1:{service.port}{path}", headers=headers, timeout=60, **more)


def upload(service: Running, token: str, body: bytes, **named: str) -> requests.Response:
    return asked(service, "POST", "/v1/files", token, files={"file": ("a.txt", body)}, data=named)


def used(service: Running, token: str) -> int:
    return int(service.send("GET", "/v1/accounts/me", token=token).json()["storage"]["used"])


def test_the_quota_is_exact_under_fifty_uploads_at_once(service: Running) -> None:
    token = token_of(service)

    def insist() -> int:
        for _ in range(100):
            status = upload(service, token, bytes(BYTES)).status_code
            if status != AGAIN:
                return status
        return AGAIN

    found = at_once(*[insist] * UPLOADS)
    assert sorted(found) == [201] * 20 + [413] * 30
    assert used(service, token) == 20 * BYTES
    files = service.send("GET", "/v1/files?limit=100", token=token).json()["items"]
    assert sum(record["size"] for record in files) == 20 * BYTES
    for record in files:
        assert service.send("DELETE", f"/v1/files/{record['id']}", token=token).status_code == 204
    assert used(service, token) == 0


BARE = {"Content-Type": "application/octet-stream", "Content-Disposition": 'attachment; filename="a"'}
REFUSED = 10
"""How often a large body is refused: what the door makes of a connection that is closed is a matter of luck."""


def test_who_is_not_signed_in_hears_of_it_however_large_the_file(service: Running) -> None:
    sent = [asked(service, "POST", "/v1/files", "none", headers=BARE, data=bytes(8 << 20)) for _ in range(REFUSED)]
    assert {(answer.status_code, answer.json()["code"]) for answer in sent} == {(401, "not_authenticated")}


@pytest.mark.parametrize(
    ("form", "size"), [("bare", (8 << 20) + 1), ("bare", 20 << 20), ("form", 20 << 20), ("chunks", 20 << 20)]
)
def test_too_large_a_file_is_refused_with_the_way_that_it_takes(service: Running, form: str, size: int) -> None:
    token, body = token_of(service), bytes(size)
    for _ in range(REFUSED):
        more: dict[str, Any] = {
            "bare": {"headers": BARE, "data": body},
            "form": {"files": {"file": ("a", body)}},
            "chunks": {"headers": BARE, "data": iter([body])},
        }[form]
        answer = asked(service, "POST", "/v1/files", token, **more)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        # Of chunks the door knows no more than that they are too many.
        assert form == "chunks" or "/v1/uploads" in answer.json()["detail"]


def changed(service: Running, token: str, cursor: str = "") -> Any:
    """What an account hears of files since a cursor."""
    after = f"&cursor={cursor}" if cursor else ""
    found = service.send("GET", f"/v1/changes?types=files{after}", token=token)
    assert found.status_code == 200, found.text
    return found.json()


def test_a_file_is_told_to_all_who_may_read_it_and_is_deleted_for_them(service: Running) -> None:
    ada = token_of(service)
    bob = str(service.send("POST", "/auth", BOB).json()["access_token"])
    reader = service.send("GET", "/v1/accounts/me", token=bob).json()["id"]
    before = changed(service, bob)["cursor"]
    follow = {"subscribe": json.dumps({"files": {}})}
    with asked(service, "GET", "/v1/live", bob, params=follow, stream=True) as live:
        assert live.status_code == 200
        made = upload(service, ada, b"hello", readers=reader).json()
        events = (line for line in live.iter_lines() if made["id"].encode() in line)
        assert b"hello" not in next(events)
    (item,) = changed(service, bob, before)["items"]
    assert (item["type"], item["id"], item["record"]) == ("files", made["id"], made)
    pulled = service.send("GET", "/v1/sync/watermelondb?tables=files&schema_version=1", token=bob).json()
    rows = [*pulled["changes"]["files"]["created"], *pulled["changes"]["files"]["updated"]]
    assert [(row["id"], row["sha256"]) for row in rows] == [(made["id"], made["sha256"])]
    assert asked(service, "GET", f"/v1/files/{made['id']}/content", bob).content == b"hello"
    assert service.send("DELETE", f"/v1/files/{made['id']}", token=ada).status_code == 204
    assert asked(service, "GET", f"/v1/files/{made['id']}/content", bob).status_code == 404
    told = changed(service, bob, before)["items"]
    assert told == [{"type": "files", "id": made["id"], "gone": "deleted"}]


def test_files_are_in_the_export_a_backup_and_a_restore(service: Running, uris: list[str], tmp_path: Path) -> None:
    token = token_of(service)
    made = upload(service, token, b"hello").json()
    export = json.loads(service.send("GET", "/v1/accounts/me/export", token=token).content)
    assert export["files"] == [made]
    flask(ROOT, uris[0], "backup", str(tmp_path / "backup"))
    flask(ROOT, uris[1], "restore", str(tmp_path / "backup"))
    whole = flask(ROOT, uris[1], "files", "check", "--content")
    assert whole == "every file has its bytes, and every byte its file\n"
    with running(tmp_path / "var", "--workers", "1", MONGODB_URI=uris[1], **LIMITS) as other:
        assert until(lambda: is_ready(other))
        found = asked(other, "GET", f"/v1/files/{made['id']}/content", token_of(other))
        assert (found.content, found.headers["ETag"]) == (b"hello", f'"{hashlib.sha256(b"hello").hexdigest()}"')
        assert other.send("DELETE", "/v1/accounts/me", token=token_of(other)).status_code == 204
        assert until(lambda: flask(ROOT, uris[1], "files", "check") == whole, 60)


def test_the_api_document_has_the_bytes_as_generators_take_them(service: Running) -> None:
    document = service.send("GET", "/openapi.json").json()
    sent = document["paths"]["/v1/files"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    name = sent["$ref"].rsplit("/", 1)[1] if "$ref" in sent else ""
    parts = (document["components"]["schemas"][name] if name else sent)["properties"]
    assert (parts["file"]["type"], parts["file"]["format"]) == ("string", "binary")
    got = document["paths"]["/v1/files/{id}/content"]["get"]["responses"]
    for status in ("200", "206"):
        (content,) = got[status]["content"].values()
        assert content["schema"]["format"] == "binary"
    assert {"304", "404", "412", "416"} <= set(got)
