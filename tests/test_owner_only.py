"""What only the owner writes, what is said once, and what is asked again: on PUT as on PATCH."""

from collections.abc import Iterator
from typing import Any

import mongoengine as me
import pytest

from service.core.errors import ValidationFailed
from service.documents import Notebook, Record
from service.model.patch import parse as parse_patch
from service.model.schema import Schema
from tests.client import Person, Phone
from tests.types import create


class Age(me.EmbeddedDocument):
    years = me.IntField()

    def clean(self) -> None:
        if self.years == 13:
            raise me.ValidationError("no thirteen")


class Bounty(Record):
    title = me.StringField(required=True)
    reward = me.IntField(default=0, owner_only=True)
    origin = me.StringField(fixed=True, default="web")
    source = me.DictField(fixed=True)
    book = me.ReferenceField(Notebook)
    ages = me.MapField(me.EmbeddedDocumentField(Age))
    lists = me.ListField(me.ListField(me.EmbeddedDocumentField(Age)))
    meta = {"collection": "test_bounties"}


class Plain(Record):
    title = me.StringField(required=True)
    reward = me.IntField(default=0, owner_only=True, db_field="r")
    meta = {"collection": "test_plain_bounties"}


@pytest.fixture
def phones(make_app: Any, ada: Person, bob: Person) -> Iterator[tuple[Phone, Phone]]:
    client = make_app(documents=[Notebook, Bounty, Plain]).test_client()
    yield Phone(client, ada.headers), Phone(client, bob.headers)
    for document in (Bounty, Plain):
        document._get_collection().drop()


@pytest.mark.parametrize("path", ["/v1/test_bounties/x", "/v1/test_plain_bounties/x"])
def test_a_writer_cannot_put_what_only_the_owner_writes(phones: Any, bob: Person, path: str) -> None:
    owner, writer = phones
    owner.put(path, {"title": "a", "reward": 5, "writers": [bob.id]})
    assert writer.put(path, {"title": "b", "reward": 99}).status_code == 403
    kept = writer.put(path, {"title": "b"})
    assert (kept.status_code, kept.json["title"], kept.json["reward"]) == (200, "b", 5)
    assert owner.put(path, {"title": "c", "reward": 7}).json["reward"] == 7


def test_what_is_said_once_cannot_be_merged_into(phones: Any) -> None:
    owner, _ = phones
    owner.put("/v1/test_bounties/x", {"title": "a", "source": {"by": "me"}})
    answer = owner.patch("/v1/test_bounties/x", {"source": {"by": "zzz"}})
    assert (answer.status_code, answer.json["errors"][0]["code"]) == (422, "read_only")


def test_a_record_from_before_a_fixed_field_had_a_default_can_be_replaced(phones: Any, ada: Person) -> None:
    owner, _ = phones
    create(Bounty, ada.id, {"_id": "old", "title": "a"})
    for body in ({"title": "b"}, {"title": "c", "origin": "web"}):
        assert owner.put("/v1/test_bounties/old", body).status_code == 200
    assert owner.put("/v1/test_bounties/old", {"title": "d", "origin": "app"}).status_code == 422


def test_a_put_does_not_ask_again_for_what_the_record_refers_to_already(phones: Any, ada: Person, bob: Person) -> None:
    owner, writer = phones
    book = ada.make_notebook()["id"]
    owner.put("/v1/test_bounties/x", {"title": "a", "book": book, "writers": [bob.id]})
    assert writer.put("/v1/test_bounties/x", {"title": "b", "book": book}).status_code == 200
    assert writer.put("/v1/test_bounties/y", {"title": "b", "book": book}).status_code == 422


@pytest.mark.parametrize("content", [{"ages": {"k": {"years": 13}}}, {"lists": [[{"years": 1}], [{"years": 13}]]}])
def test_the_clean_of_an_embedded_document_is_asked_wherever_it_stands(content: Any) -> None:
    with pytest.raises(ValidationFailed):
        Schema(Bounty).load({"title": "a", **content})


def test_one_is_not_true_to_a_pull() -> None:
    class Free(Record):
        free = me.ListField(me.DictField())
        meta = {"collection": "test_free"}

    wanted = parse_patch(Schema(Free), {"$pull": {"free": {"a": True}}})
    assert wanted.apply({"_id": "x", "free": [{"a": 1}, {"a": True}]})["free"] == [{"a": 1}]
