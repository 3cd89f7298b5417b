"""The export: everything of an account in one JSON document, record by record."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest
import requests
from flask import Flask
from werkzeug.test import TestResponse

from service.documents import Note, Record
from tests.client import Person, Phone
from tests.test_races import served, sign_up
from tests.types import SHIPPED, new

ME = "/v1/accounts/me"
EXPORT = f"{ME}/export"


def export(person: Person) -> dict[str, Any]:
    answer = person.get(EXPORT)
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    found: dict[str, Any] = answer.json
    return found


def fill(account: str, count: int, length: int = 500) -> None:
    with pymongo.timeout(60):  # longer than a request may take: these are up to 80 MB
        Note._get_collection().insert_many(
            new(Note, account, {"title": "x", "body": "y" * length}) for _ in range(count)
        )


def growth(person: Person) -> int:
    """By how many bytes this process grows while an export is read and thrown away."""
    answer: TestResponse = person.client.get(EXPORT, headers=person.headers, buffered=False)
    before = most = resident(Path("/proc/self/stat"))
    for number, _ in enumerate(answer.iter_encoded()):
        if number % 1000 == 0:
            most = max(most, resident(Path("/proc/self/stat")))
    return most - before


def test_a_new_account_exports_itself_and_empty_lists(ada: Person) -> None:
    lists = {"memberships": [], **{document._meta["collection"]: [] for document in SHIPPED}}
    account = ada.get(ME).json
    del account["storage"]
    assert export(ada) == {"account": account, **lists}


def test_every_record_type_is_there(ada: Person) -> None:
    assert export(ada).keys() == {"account", "memberships", *(document._meta["collection"] for document in SHIPPED)}


def test_the_records_are_as_a_get_gives_them(ada: Person) -> None:
    notebook = ada.make_notebook(colour="#aabbcc")
    place = {"type": "Point", "coordinates": [126.9, 37.5]}
    notes = [
        ada.make_note(notebook=notebook["id"], due="2026-11-22T10:00:00Z", place=place),
        ada.make_note(readers=["*"]),
    ]
    exported = export(ada)
    assert exported["notebooks"] == [notebook]
    assert sorted(exported["notes"], key=lambda note: note["id"]) == sorted(notes, key=lambda note: note["id"])


def test_the_groups_that_one_is_in_are_there_with_the_role(ada: Person, bob: Person) -> None:
    group = bob.post("/v1/groups", {"name": "Family"}).json
    bob.post("/v1/groups", {"name": "Others"})
    bob.post(f"/v1/groups/{group['id']}/members", {"account": ada.id})
    found = export(ada)
    (membership,) = found["memberships"]
    assert found["groups"] == [group]
    assert membership == {"group": group["id"], "role": "member", "since": membership["since"]}
    assert [held["role"] for held in export(bob)["memberships"]] == ["manager", "manager"]


def test_what_others_own_is_not_exported(ada: Person, bob: Person) -> None:
    bob.make_note(readers=[ada.id], writers=["*"])
    assert export(ada)["notes"] == []


def test_the_export_of_one_is_not_the_export_of_another(ada: Person, bob: Person) -> None:
    ada.make_note()
    assert (export(bob)["account"]["username"], export(bob)["notes"]) == ("bob", [])


def test_what_is_deleted_is_not_exported(ada: Person) -> None:
    ada.delete(f"/v1/notes/{ada.make_note()['id']}")
    assert export(ada)["notes"] == []


def test_nothing_hidden_is_exported(ada: Person) -> None:
    ada.make_note()
    text = ada.get(EXPORT).text
    assert not [word for word in ("argon2", "password", "username_key", "access", "purge_at") if word in text]


def test_any_text_comes_through(ada: Person) -> None:
    title = 'a "quoted" \\ line\u2028 of 글 🎉'
    ada.make_note(title=title)
    assert export(ada)["notes"][0]["title"] == title


def test_without_a_token_there_is_no_export(phone: Phone) -> None:
    assert phone.get(EXPORT).json["code"] == "not_authenticated"


def test_more_than_one_cursor_batch_is_exported(ada: Person) -> None:
    fill(ada.id, 250)
    notes = export(ada)["notes"]
    assert len({note["id"] for note in notes}) == 250


def test_it_comes_in_pieces(ada: Person) -> None:
    fill(ada.id, 20)
    answer = ada.client.get(EXPORT, headers=ada.headers, buffered=False)
    pieces = list(answer.iter_encoded())
    assert len(pieces) > 20
    assert max(len(piece) for piece in pieces) < 2_000
    assert answer.content_length is None


class Tick(Record):
    """As small as a record can be: a hundred thousand of them are stored in seconds."""

    meta = {"collection": "test_ticks", "sorts": ["-updated_at"]}


@pytest.fixture
def ticks() -> Iterator[Any]:
    """The collection of a record type that is exported too."""
    yield Tick._get_collection()
    Tick._get_collection().drop()


@pytest.mark.real
def test_memory_stays_flat_for_100_000_records(ada: Person, ticks: Any) -> None:
    for _ in range(10):
        ticks.insert_many(new(Tick, ada.id, {}) for _ in range(10_000))
    assert growth(ada) < 20_000_000


@pytest.mark.real
def test_memory_of_a_server_stays_flat_although_the_client_is_slow(
    app: Flask, mongodb_uri: str, tmp_path: Path
) -> None:
    with served(mongodb_uri, tmp_path) as (server,):
        phone = sign_up(server)
        fill(phone.send("GET", ME).json()["id"], 4_000, length=20_000)
        before = memory(server.process.pid)
        with requests.get(f"{server.base}{EXPORT}", headers=bearer(phone), stream=True, timeout=30) as answer:
            chunks = answer.iter_content(1 << 16)
            next(chunks)
            time.sleep(1)
            assert memory(server.process.pid) - before < 30_000_000
            assert sum(len(chunk) for chunk in chunks) > 4_000 * 20_000 - (1 << 16)


def bearer(phone: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {phone.tokens['access_token']}"}


def memory(group: int) -> int:
    """Resident bytes of all processes of a group."""
    return sum(resident(path) for path in Path("/proc").glob("[0-9]*/stat") if group_of(path) == group)


def group_of(path: Path) -> int | None:
    try:
        return int(path.read_text().rpartition(")")[2].split()[2])
    except OSError:
        return None


def resident(path: Path) -> int:
    return int(path.read_text().rpartition(")")[2].split()[21]) * 4096
