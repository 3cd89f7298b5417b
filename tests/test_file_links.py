"""Files through the records that refer to them, and by links."""

from collections.abc import Iterator
from typing import Any

import pytest
from mongoengine import NULLIFY, ListField, ReferenceField, StringField

from service.core.log import Lines
from service.documents import Account, File, Record
from service.model.registry import Registry
from service.streams.app import Streams
from tests.client import Person, pointers
from tests.streaming import Sent, Served, served
from tests.uploading import upload


class Album(Record):
    """Refers to files in both ways."""

    title = StringField()
    cover = ReferenceField(File, reverse_delete_rule=NULLIFY)
    photos = ListField(ReferenceField(File), max_length=10)
    meta = {"collection": "test_albums"}


TYPES = [File, Album]


@pytest.fixture
def people(make_app: Any) -> Iterator[tuple[Person, Person]]:
    app = make_app(TYPES)
    yield Person.sign_up(app.test_client(), "ada"), Person.sign_up(app.test_client(), "bob")
    Album._get_collection().drop()


@pytest.fixture
def serving(test_settings: dict[str, Any], people: Any) -> Iterator[Served]:
    with served(Streams(test_settings, Registry(TYPES), lambda: False, {}, Lines(test_settings))) as found:
        yield found


def get(serving: Served, url: str, person: Person | None = None, method: str = "GET") -> Sent:
    path, _, query = url.removeprefix("http://localhost").partition("?")
    return serving.ask(method, path, query, **({} if person is None else person.headers))


def test_who_may_read_a_record_may_read_its_files(serving: Served, people: tuple[Person, Person]) -> None:
    ada, bob = people
    cover, photo, other = (upload(ada, {"name": name}, name.encode())["id"] for name in ("cover", "photo", "other"))
    album = {"id": "a", "cover": cover, "photos": [photo], "readers": [bob.id]}
    assert ada.post("/v1/test_albums", album).status_code == 201
    assert get(serving, f"/v1/test_albums/a/files/{cover}", bob).body == b"cover"
    assert get(serving, f"/v1/test_albums/a/files/{photo}", bob).body == b"photo"
    assert get(serving, f"/v1/test_albums/a/files/{other}", bob).status == 404
    assert get(serving, f"/v1/files/{cover}/content", bob).status == 404
    assert get(serving, f"/v1/test_albums/a/files/{cover}").status == 401
    assert get(serving, f"/v1/unknown/a/files/{cover}", bob).status == 404
    assert pointers(bob.post("/v1/test_albums", {"cover": cover})) == {"/cover": "not_found"}
    ada.patch("/v1/test_albums/a", {"readers": []})
    assert get(serving, f"/v1/test_albums/a/files/{cover}", bob).status == 404
    ada.delete(f"/v1/files/{photo}")
    assert get(serving, f"/v1/test_albums/a/files/{photo}", ada).status == 404


def link(person: Person, id: str, **body: Any) -> str:
    answer = person.post(f"/v1/files/{id}/links", body)
    assert answer.status_code == 201, answer.json
    return str(answer.json["url"])


def test_a_link_is_good_without_a_token(serving: Served, people: tuple[Person, Person]) -> None:
    ada, _ = people
    id = upload(ada, {"name": "a"}, b"hello")["id"]
    url = link(ada, id, expires_in=60)
    sent = get(serving, url)
    assert (sent.status, sent.body) == (200, b"hello")
    assert sent.headers["cross-origin-resource-policy"] == "cross-origin"
    assert get(serving, url, method="HEAD").headers["content-length"] == "5"


def test_a_link_dies_with_the_right(serving: Served, people: tuple[Person, Person]) -> None:
    ada, bob = people
    id = upload(ada, {"name": "a", "readers": [bob.id]}, b"hello")["id"]
    url = link(bob, id)
    assert get(serving, url).status == 200
    Account._get_collection().update_one({"_id": bob.id}, {"$set": {"locked_at": True}})
    assert get(serving, url).status == 404
    Account._get_collection().update_one({"_id": bob.id}, {"$unset": {"locked_at": ""}})
    assert get(serving, url).status == 200
    ada.patch(f"/v1/files/{id}", {"readers": []})
    assert get(serving, url).status == 404
    own = link(ada, id)
    ada.delete(f"/v1/files/{id}")
    assert get(serving, own).status == 404


def test_what_is_no_link_leads_nowhere(
    serving: Served, people: tuple[Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = people
    one, other = (upload(ada, {"name": name})["id"] for name in "ab")
    url = link(ada, one, expires_in=60)
    assert get(serving, url.replace(one, other)).status == 404
    for text in ("", "x", "é", url.partition("link=")[2][:-2], "A" * 100):
        assert get(serving, f"/v1/files/{one}/content?link={text}").status == 404
    monkeypatch.setattr("service.files.links.time.time", lambda: 10**10)
    assert get(serving, url).status == 404
    assert bob.post(f"/v1/files/{one}/links", {}).status_code == 404
    for body in ({"expires_in": 0}, {"expires_in": 604_801}, {"size": "none"}, {"other": 1}):
        assert ada.post(f"/v1/files/{one}/links", body).status_code == 422
