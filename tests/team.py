"""Functions of a team, for tests: none ships."""

from __future__ import annotations

import time
from typing import Any

from mongoengine import EmbeddedDocument, EmbeddedDocumentListField, IntField, StringField, ValidationError
from pydantic import BaseModel, Field

from service.core.errors import Cause, LimitReached, ValidationFailed
from service.documents import Group, Note
from service.http.functions import Payload, function
from service.records.acting import Acting

calls: list[tuple[Any, ...]] = []


class Titles(Payload):
    """Titles, and how often."""

    titles: list[str] = Field(max_length=3)
    times: int = 1
    stop: bool = False


class Ids(Payload):
    """Ids of records."""

    ids: list[str]


class Wanted(Payload):
    """What a list is asked for, and as whom."""

    asked: dict[str, str] = {}
    account: str | None = None
    groups: bool = False


class Found(Payload):
    """Records."""

    notes: list[Any]


class Line(EmbeddedDocument):
    """A line of an order."""

    item = StringField(required=True, max_length=10)
    count = IntField(min_value=1, default=1)


class Order(EmbeddedDocument):
    """What is wanted."""

    lines = EmbeddedDocumentListField(Line, required=True, max_length=2)
    remark = StringField()

    def clean(self) -> None:
        if self.remark == "none":
            raise ValidationError(errors={"remark": "something"})


class Bill(EmbeddedDocument):
    """What it comes to."""

    owner = StringField()
    total = IntField(required=True)


class Anything(Payload):
    """Whatever an answer says."""

    owner: Any = None
    username: Any = None
    responses: Any = None


@function("make-notes", body=Titles, answer=Ids, example={"titles": ["Milk"]})
def make_notes(acting: Acting, body: Titles) -> Ids:
    """Make a note of each title."""
    calls.append((type(acting.who), acting.who.account, body))
    notes = acting.records(Note)
    ids = [notes.create({"title": title})["id"] for title in body.titles for _ in range(body.times)]
    if body.stop:
        raise LimitReached("that is enough")
    return Ids(ids=ids)


@function("order", body=Order, answer=Bill)
def order(acting: Acting, body: Order) -> Bill:
    """Say what an order comes to."""
    return Bill(owner="somebody else", total=sum(line.count for line in body.lines))


@function("count-notes", answer=Ids, roles=["clerk", "manager"])
def count_notes(acting: Acting) -> Ids:
    """Tell the ids of all notes of the caller."""
    return Ids(ids=[note["id"] for note in acting.records(Note).each({"pinned": False}, sort="title")])


@function("touch", body=Ids)
def touch(acting: Acting, body: Ids) -> None:
    """Read, change and delete notes as the caller may."""
    notes = acting.records(Note)
    first, second, third = body.ids
    assert notes.find("nowhere") is None
    notes.change(first, {"$inc": {"priority": 1}}, revision=1)
    notes.put(second, {"title": "put"})
    notes.delete(third)


@function("take-from", body=Ids, answer=Ids)
def take_from(acting: Acting, body: Ids) -> Ids:
    """Tell the notes of another account, by the authority of this code."""
    return Ids(ids=[note["id"] for note in acting.acting_for(body.ids[0]).records(Note).each()])


@function("read-notes", body=Wanted, answer=Found)
def read_notes(acting: Acting, body: Wanted) -> Found:
    """Tell the notes or groups of a list, as the caller or by the authority of this code as another."""
    calls.append(("read-notes",))
    acts = acting if body.account is None else acting.acting_for(body.account)
    return Found(notes=list(acts.records(Group if body.groups else Note).each(**body.asked)))


@function("report", answer=Ids, roles=["manager"])
def report(acting: Acting) -> Ids:
    """Tell managers something."""
    calls.append(("report",))
    return Ids(ids=["a secret of managers"])


@function("seldom", limit="2/hour")
def seldom(acting: Acting) -> None:
    """Do what may not be done often."""


@function("say", body=Anything, answer=Anything)
def say(acting: Acting, body: Anything) -> Anything:
    """Say it again."""
    calls.append(("say",))
    return body


@function("refuse")
def refuse(acting: Acting) -> None:
    """Refuse."""
    raise ValidationFailed([Cause("not_today", "another day", pointer="/day")])


@function("fail")
def fail(acting: Acting) -> None:
    """Fail."""
    raise RuntimeError("a secret of the function")


@function("lie", answer=Ids)
def lie(acting: Acting) -> Any:
    """Return something else."""
    return {"ids": ["a secret of the function"]}


@function("shout", answer=Ids)
def shout(acting: Acting) -> Ids:
    """Return more than an answer holds."""
    return Ids(ids=["x" * 1000] * 5000)


@function("sleep", answer=Ids)
def sleep(acting: Acting) -> Ids:
    """Write a note before its time is up, and one after it."""
    notes = acting.records(Note)
    notes.create({"id": "early", "title": "early"})
    time.sleep(0.5)
    notes.create({"id": "late", "title": "late"})
    return Ids(ids=[])


class Loose(BaseModel):
    """Takes anything."""
