"""A record type with every hook that there is, and what its hooks were called with."""

from __future__ import annotations

from typing import Any, ClassVar

from mongoengine import (
    CASCADE,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    IntField,
    ListField,
    PointField,
    ReferenceField,
    StringField,
    ValidationError,
)
from pymongo.errors import OperationFailure

from service.core.errors import Cause, Forbidden, ValidationFailed
from service.documents import Notebook, Record
from service.mongo import transactions
from service.policy import Identity


class Step(EmbeddedDocument):
    """A part of a chore."""

    text = StringField(required=True, max_length=20)


class Size(EmbeddedDocument):
    """How large something is."""

    width = IntField(min_value=0)


class Errand(Record):
    """Has hooks: its title says what they do."""

    title = StringField(required=True, max_length=20)
    slug = StringField(max_length=20, regex=r"^[a-z-]*$")
    count = IntField(default=0, max_value=10)
    rounds = IntField(read_only=True, default=0, help_text="how often a hook has seen it change")
    by = StringField(hidden=True)
    parent = ReferenceField(Notebook, reverse_delete_rule=CASCADE)
    steps = EmbeddedDocumentListField(Step)
    size = EmbeddedDocumentField(Size)
    place = PointField(auto_index=False)
    tags = ListField(StringField(max_length=5))

    meta = {
        "collection": "test_errands",
        "search": ["title", "slug"],
        "filters": ["id", "owner", "created_at", "updated_at", "revision", "count"],
    }

    calls: ClassVar[list[tuple[Any, ...]]] = []

    def clean(self) -> None:
        if self.slug == "unclean":
            raise ValidationError(errors={"slug": "clean"})

    def before_create(self, who: Identity) -> None:
        self.calls.append(("create", type(self), str(self.id), type(who), who.account))
        self.by = who.account
        if self.slug is None:
            self.slug = self.title.lower()
        self.obey(who)

    def before_change(self, before: Errand, who: Identity) -> None:
        self.calls.append(("change", before.title, self.title, self.count, who.account))
        self.rounds += 1
        self.obey(who)

    def before_delete(self, who: Identity) -> None:
        self.calls.append(("delete", self.title, who.account))
        if self.title == "stays":
            raise Forbidden("this one stays")
        self.obey(who)

    def obey(self, who: Identity) -> None:
        if (order := ORDERS.get(self.title)) is not None:
            order(self)


def refuse(_errand: Any) -> None:
    raise ValidationFailed([Cause("not_today", "another day", pointer="/title")])


def fail(_errand: Any) -> None:
    raise RuntimeError("a secret of the hook")


def in_place(errand: Any) -> None:
    errand.place["coordinates"][0] = 2.0
    errand.steps.append(Step(text="last"))
    errand.steps[0].text = "first"
    errand.size.width = 3
    errand.tags.append("new")


def once_more(errand: Any) -> None:
    """Fail the first time as MongoDB does where two transactions are in each other's way."""
    if len([call for call in Errand.calls if call[0] == "create"]) == 1:
        transactions.try_again(OperationFailure("a conflict", 112))


ORDERS: dict[str, Any] = {
    "refused": refuse,
    "failing": fail,
    "long": lambda errand: setattr(errand, "slug", "x" * 21),
    "untyped": lambda errand: setattr(errand, "count", {"a": 1}),
    "taking": lambda errand: setattr(errand, "owner", "somebody"),
    "renaming": lambda errand: setattr(errand, "id", "another"),
    "bare": lambda errand: setattr(errand, "title", None),
    "unclean": lambda errand: setattr(errand, "slug", "unclean"),
    "grouped": lambda errand: setattr(errand, "readers", ["group:none"]),
    "sharing": lambda errand: setattr(errand, "readers", ["*"]),
    "pointing": lambda errand: setattr(errand, "parent", "nowhere"),
    "in place": in_place,
    "looking": lambda errand: errand.calls.append((errand.parent, errand.parent.id)),
    "again": once_more,
    "set": lambda errand: setattr(errand, "tags", {1, 2}),
    "plain": lambda errand: setattr(errand, "count", 0),
}
