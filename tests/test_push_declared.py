"""What record types declare of their changes is said once, to whom they name and who may read the record."""

import uuid
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from mongoengine import StringField
from prometheus_client import REGISTRY as METRICS

from service.changes.follower import Follower
from service.changes.passage import Passage
from service.core.clock import now
from service.documents import RECORDS, LeaseLost, OutboxItem, Record, Right
from service.model.fields import InvalidDocument
from service.model.record_type import derive
from service.model.registry import Registry
from service.push.declared import FOLLOWER, DeclaredPushes
from service.worker.chores import declared_pushing
from service.worker.lease import Alone, Holding
from tests.client import Person
from tests.http2_server import Http2Server, Said
from tests.pushing import TOKEN, Platforms, Sending, credentials, states
from tests.recording import Recording


def told(errand: Any) -> Mapping[str, Any] | None:
    """Tell whoever has to do an errand of it, and of nothing else."""
    if errand.title in ("broken", None):
        raise KeyError("a mistake of the team's")
    if errand.title == "to a text":
        return {"to": "ada", "title": "x"}
    if errand.title == "to many":
        return {"to": [str(number) for number in range(101)], "title": "x"}
    if errand.assignee is None:
        return None
    title = {"en": f"For you: {errand.title}", "ko": f"할 일: {errand.title}"}
    return {"to": [errand.assignee], "title": title, "data": {"errand": errand.id}, "collapse": f"errand-{errand.id}"}


class Errand(Record):
    """Something that somebody has to do."""

    title = StringField(required=True, max_length=100)
    assignee = StringField(max_length=64)

    meta = {"collection": "errands", "push": told}


REGISTRY = Registry([*RECORDS, Errand])


@pytest.fixture
def people(make_app: Any) -> Iterator[tuple[Person, Person]]:
    app = make_app([*RECORDS, Errand])
    ada, bob = Person.sign_up(app.test_client(), "ada"), Person.sign_up(app.test_client(), "bob")
    for person, token in ((ada, TOKEN), (bob, "ab" * 32)):
        body = {"platform": "apns", "token": token}
        assert person.put("/v1/accounts/me/push", body, headers={"Accept-Language": "ko"}).status_code == 200
    yield ada, bob
    Errand._get_collection().delete_many({})


def make(person: Person, **fields: Any) -> str:
    answer = person.post("/v1/errands", {"title": "milk", **fields})
    assert answer.status_code == 201, answer.json
    return str(answer.json["id"])


def tell(*ids: str, right: Right | None = None, gone: bool = False) -> list[dict[str, Any]]:
    """What is sent when a follower hears of changes of these."""
    changes = [{"type": "errands", "record": id, **({"gone": True} if gone else {})} for id in ids]
    DeclaredPushes(REGISTRY).tell(right or Alone(), Passage(changes, 1, 1, False))
    return list(OutboxItem._get_collection().find({"kind": "apns"}))


def test_who_is_named_is_told(people: tuple[Person, Person]) -> None:
    ada, bob = people
    id = make(ada, assignee=bob.id, readers=[bob.id])
    (item,) = tell(id)
    assert (item["account"], item["message"]["title"]["ko"]) == (bob.id, "할 일: milk")
    assert item["message"]["collapse"] == f"errand-{id}"


def test_what_is_told_again_is_sent_once_and_a_later_change_anew(people: tuple[Person, Person]) -> None:
    ada, bob = people
    id = make(ada, assignee=bob.id, readers=[bob.id])
    tell(id)
    assert len(tell(id)) == 1
    OutboxItem._get_collection().update_many({}, {"$set": {"state": "sent"}})
    assert len(tell(id)) == 1
    ada.patch(f"/v1/errands/{id}", {"title": "bread"})
    assert len(tell(id)) == 2


def test_who_may_not_read_the_record_is_told_nothing(people: tuple[Person, Person]) -> None:
    ada, bob = people
    assert tell(make(ada, assignee=bob.id), make(ada, assignee="nobody")) == []


def test_nothing_is_said_of_what_names_nobody_is_gone_or_old(people: tuple[Person, Person]) -> None:
    ada, bob = people
    shared = {"assignee": bob.id, "readers": [bob.id]}
    assert tell(make(ada), "none-such") == []
    id = make(ada, **shared)
    assert tell(id, gone=True) == []
    Errand._get_collection().update_one({"_id": id}, {"$set": {"updated_at": now() - timedelta(days=2)}})
    assert tell(id) == []


def test_a_declaration_is_not_asked_about_what_was_deleted(people: tuple[Person, Person]) -> None:
    ada, bob = people
    id = make(ada, title="broken", assignee=bob.id, readers=[bob.id])
    before = mistakes()
    tell(id)
    assert mistakes() == before + 1
    ada.delete(f"/v1/errands/{id}")
    tell(id)
    assert mistakes() == before + 1


def mistakes() -> float:
    """How often a declaration has failed."""
    return METRICS.get_sample_value("madang_push_mistakes_total", {"type": "errands"}) or 0.0


def test_what_is_declared_leaves_by_apns_with_an_id_that_is_the_same_at_each_try(
    people: tuple[Person, Person], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = people
    tell(make(ada, assignee=bob.id, readers=[bob.id]))
    answers = Platforms()
    answers.say("ab" * 32, Said(500))
    server = Http2Server(tmp_path, answers)
    monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
    sending = Sending({**people[0].client.application.config, **credentials(tmp_path, server.url)})
    sending.step()
    sending.step(at_once=True)
    sending.leave()
    server.stop()
    assert states() == {"sent": 1}
    first, second = (uuid.UUID(asked.headers["apns-id"]) for asked in server.asked)
    assert first == second


@pytest.mark.parametrize("title", ["broken", "to a text", "to many"])
def test_a_mistake_in_a_declaration_stops_no_other_change(people: tuple[Person, Person], title: str) -> None:
    ada, bob = people
    good = make(ada, assignee=bob.id, readers=[bob.id])
    assert len(tell(make(ada, title=title), good)) == 1


def test_who_has_lost_the_lease_tells_nothing(people: tuple[Person, Person]) -> None:
    class Gone(Alone):
        held = False

    ada, bob = people
    id = make(ada, assignee=bob.id, readers=[bob.id])
    with pytest.raises(LeaseLost):
        tell(id, right=Gone())
    assert OutboxItem._get_collection().count_documents({}) == 0


@pytest.mark.parametrize("declared", ["readers", lambda: None, lambda record, who: None])
def test_a_declaration_that_cannot_be_called_stops_the_start(declared: Any) -> None:
    class Wrong(Record):
        meta = {"collection": "wrongs", "push": declared}

    with pytest.raises(InvalidDocument, match=r"meta\['push'\]"):
        derive(Wrong)


def test_a_worker_follows_where_a_type_declares_something() -> None:
    assert declared_pushing(Registry(RECORDS)) == []
    assert [chore.name for chore in declared_pushing(REGISTRY)] == ["push"]


@pytest.mark.real
def test_a_change_is_followed_from_its_commit_on(people: tuple[Person, Person], test_settings: dict[str, Any]) -> None:
    ada, bob = people
    declared = DeclaredPushes(REGISTRY)
    recording = Recording(REGISTRY, test_settings)
    recording.catch_up()
    lease = Holding(FOLLOWER, 60.0)
    assert lease.take()
    follower = Follower(FOLLOWER, declared.types, declared.tell)
    follower.step(lease)
    make(ada, assignee=bob.id, readers=[bob.id])
    make(ada)
    recording.catch_up()
    for _ in range(3):
        follower.step(lease)
    recording.close()
    (item,) = OutboxItem._get_collection().find({"kind": "apns"})
    assert item["account"] == bob.id
