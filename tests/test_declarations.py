"""What a document class declares wrongly stops the start: a typo with the name that was meant, each in one sentence."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import mongoengine as me
import pytest
from flask import Flask
from mongoengine.base import BaseField

from service.documents import RECORDS, SYSTEM, Account, Note, Notebook, Record
from service.http.record_schemas import of_everything
from service.model import declarations
from service.model.fields import InvalidDocument, UnsupportedField
from service.model.record_type import derive
from service.model.registry import TAKEN_PATHS, Registry
from tests.streaming import Served
from tests.types import REGISTRY

Making = Callable[[], Any]


def declared(collection: Any = "test_declared", **members: Any) -> type[Record]:
    meta = {"collection": collection, **members.pop("meta", {})}
    made: type[Record] = type("Thing", (Record,), {**members, "meta": meta})
    return made


def embedded(meta: dict[str, Any] | None = None, **fields: Any) -> BaseField:
    members = {**fields, **({"meta": meta} if meta else {})}
    return me.EmbeddedDocumentField(type("Inner", (me.EmbeddedDocument,), members))


class Plain(me.Document):
    """No record type: it inherits nothing of Record's."""

    title = me.StringField()


class Mixin:
    """Fields that a record type takes over."""

    a = me.IntField(db_field="x")


def failing() -> str:
    raise OSError("no disk")


class WideField(me.StringField):
    """A field class of an author's own, with an argument of its own."""

    def __init__(self, wide: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = 2 if wide else 1


def flagged(where: str, argument: str) -> type[Record]:
    return declared(part=INSIDE[where](me.IntField(**{argument: True})))


INSIDE: dict[str, Callable[[BaseField], BaseField]] = {
    "in a list": me.ListField,
    "in a map": me.MapField,
    "in an embedded document": lambda field: embedded(a=field),
    "in a list of them": lambda field: me.ListField(embedded(a=field)),
}


REFUSED: dict[str, tuple[Making, str]] = {
    # Examples
    "an example that is no body": (
        lambda: declared(meta={"example": "tea"}),
        r"Thing has meta\['example'\] 'tea', which is no body; write a dict of members",
    ),
    "an example that breaks a rule": (
        lambda: declared(title=me.StringField(max_length=2), meta={"example": {"title": "tea", "x": 1}}),
        r"meta\['example'\] .*breaks its own rules: /title: at most 2 characters; /x: there is no such field",
    ),
    # Arguments
    "an argument": (
        lambda: declared(title=me.StringField(max_lenght=3)),
        "Thing.title .*max_lenght.*mean max_length?",
    ),
    "readonly": (lambda: declared(title=me.StringField(readonly=True)), "Thing.title .*readonly.*mean read_only?"),
    "in a list": (
        lambda: declared(tags=me.ListField(me.StringField(regexp="a"))),
        "Thing.tags .*regexp.*mean regex?",
    ),
    "in an embedded document": (
        lambda: declared(inner=embedded(a=me.IntField(min_vale=1))),
        "Inner.a .*mean min_value?",
    ),
    "in a list of them": (
        lambda: declared(inner=me.ListField(embedded(a=me.IntField(ownr_only=True)))),
        "Inner.a .*mean owner_only?",
    ),
    "on a hidden field": (lambda: declared(a=me.StringField(hidden=True, defualt="x")), "Thing.a .*mean default?"),
    **{
        f"{argument} {where}": (
            partial(flagged, where, argument),
            f"(Thing.part|Inner.a) is {argument} inside of a field",
        )
        for argument in ("read_only", "fixed", "hidden", "owner_only")
        for where in INSIDE
    },
    "unlike any": (
        lambda: declared(title=me.StringField(zzz=1)),
        "Thing.title has the argument zzz, which nobody knows$",
    ),
    "of an own class": (lambda: declared(a=WideField(wides=True)), "Thing.a .*wides.*mean wide?"),
    # Meta
    "filter": (lambda: declared(meta={"filter": ["title"]}), r"Thing has meta\['filter'\].*mean filters?"),
    "sort": (lambda: declared(meta={"sort": ["-updated_at"]}), r"Thing has meta\['sort'\].*mean sorts?"),
    "of an embedded document": (
        lambda: declared(inner=embedded(meta={"alow_inheritance": False}, a=me.IntField())),
        r"Inner has meta\['alow_inheritance'\].*mean allow_inheritance?",
    ),
    "versions that are no numbers": (
        lambda: declared(meta={"sync_versions": ["1"]}),
        "which is no list of whole numbers",
    ),
    "no version at all": (lambda: declared(meta={"sync_versions": []}), "which is no list of whole numbers"),
    **{
        f"the version {version!r}": (
            partial(declared, meta={"version": version}),
            r"Thing has meta\['version'\] .*, which is no whole number from 1 on",
        )
        for version in (0, "1", 1.5, True, None)
    },
    "a text for a flag": (
        lambda: declared(meta={"sync_public": "no"}),
        r"Thing has meta\['sync_public'\] 'no', which is neither True nor False",
    ),
    "a text for a list": (lambda: declared(meta={"filters": "title"}), "which is no list of names"),
    "inheritance": (lambda: declared(meta={"allow_inheritance": True}), "Thing allows inheritance"),
    # Names
    "owner": (lambda: declared(owner=me.StringField()), "Thing.owner takes the place of Record.owner"),
    "access": (
        lambda: declared(access=me.ListField(me.StringField())),
        "Thing.access takes the place of Record.access",
    ),
    "no field at all": (lambda: declared(readers="me"), "Thing.readers takes the place of Record.readers"),
    "a method": (lambda: declared(version=me.IntField()), "Thing.version takes the place of Record.version"),
    "a stored name": (
        lambda: declared(a=me.StringField(db_field="owner")),
        "Thing.a is stored as 'owner', and so is",
    ),
    "a stored name twice": (
        lambda: type("Thing", (Mixin, Record), {"b": me.IntField(db_field="x"), "meta": {"collection": "things"}}),
        "Thing.b is stored as 'x', and so is Thing.a",
    ),
    "expanded": (lambda: declared(expanded=me.StringField()), "Thing.expanded has to be called otherwise"),
    # Ids
    "an ObjectId": (
        lambda: declared(id=me.ObjectIdField(primary_key=True)),
        "Thing.id takes the place of Record.id; the id of a record is a text",
    ),
    "a number": (lambda: declared(id=me.IntField(primary_key=True)), "Thing.id takes the place of Record.id"),
    "a text": (lambda: declared(id=me.StringField(primary_key=True)), "Thing.id takes the place of Record.id"),
    # Fields that are none
    "a class": (
        lambda: declared(title=me.StringField),
        r"Thing.title is the class StringField; write StringField\(\)",
    ),
    "a comma": (lambda: declared(title=(me.StringField(),)), "Thing.title is a tuple with a field in it"),
    "a comma inside": (lambda: declared(inner=embedded(a=(me.IntField(),))), "Inner.a is a tuple with a field in it"),
    # Limits, defaults, choices
    "limits the wrong way round": (
        lambda: declared(a=me.IntField(min_value=5, max_value=3)),
        "Thing.a has min_value 5 over max_value 3, so nothing would pass",
    ),
    "a length of text": (
        lambda: declared(a=me.StringField(max_length="3")),
        "Thing.a has max_length '3', .* no length",
    ),
    "a negative length": (lambda: declared(a=me.StringField(min_length=-1)), "Thing.a has min_length -1"),
    "a limit of text": (
        lambda: declared(a=me.IntField(min_value="1")),
        "Thing.a has min_value '1', which is no number",
    ),
    "a large default": (
        lambda: declared(a=me.IntField(max_value=3, default=5)),
        "Thing.a has the default 5, which breaks its own rule: at most 3",
    ),
    "a short default": (
        lambda: declared(a=me.StringField(min_length=1, default="")),
        "default '', .* at least 1 char",
    ),
    "a default that is no choice": (lambda: declared(a=me.StringField(choices=["x"], default="y")), "one of 'x'"),
    "a default that does not match": (
        lambda: declared(a=me.StringField(regex="^a", default="b")),
        "text that matches",
    ),
    "a default of another type": (
        lambda: declared(a=me.IntField(default="many")),
        "Thing.a has the default 'many'.* a whole number",
    ),
    "a function's default": (
        lambda: declared(a=me.IntField(max_value=3, default=lambda: 5)),
        "Thing.a has the default 5",
    ),
    "a default that fails": (lambda: declared(a=me.StringField(default=failing)), "OSError: no disk"),
    "a default inside": (
        lambda: declared(inner=embedded(a=me.IntField(max_value=3, default=5))),
        "Thing.inner.a has the default 5",
    ),
    "an entry's default": (
        lambda: declared(a=me.ListField(me.IntField(), default=lambda: [1, "x"])),
        "Thing.a has the default",
    ),
    "a choice of another type": (lambda: declared(a=me.IntField(choices=[1, "x"])), "Thing.a .*choice"),
    "a choice over the limit": (
        lambda: declared(a=me.StringField(max_length=1, choices=["a", "bb"])),
        "Thing.a has the choice 'bb', which breaks its own rule: at most 1 character",
    ),
    "choices in one text": (
        lambda: declared(a=me.StringField(choices="ab")),
        "Thing.a has the choices 'ab', one text",
    ),
    "no function": (
        lambda: declared(a=me.StringField(validation=5)),
        "Thing.a has a `validation` that is no function",
    ),
    # Indexes that hold no record
    "an index of two lists": (
        lambda: declared(
            a=me.ListField(me.IntField(), db_field="x"),
            b=me.EmbeddedDocumentListField(embedded(c=me.IntField()).document_type),
            meta={"collection": "things", "indexes": [("a", "b.c")]},
        ),
        "Thing has an index of x, b.c, but it takes one list, and x and b.c are or stand in lists",
    ),
    "an index of a hashed list": (
        lambda: declared(a=me.ListField(me.IntField()), meta={"collection": "things", "indexes": ["#a"]}),
        "Thing has an index of a, but no list is hashed, and a is one or is in one",
    ),
    "a filter on a list of points": (
        lambda: declared(a=me.ListField(me.PointField()), meta={"collection": "things", "filters": ["a"]}),
        "Thing has an index of access, a, but there is none for a, a list of shapes",
    ),
    # Collections
    **{
        f"the collection {name!r}": (lambda name=name: declared(name), "is no part of a path")
        for name in ("my things", "a/b", "a.b", "", "$x", "ä", "-x", "a?b", "a\n", 5)
    },
    # Classes
    "a Document": (lambda: Plain, "Plain is no record type: it has to inherit Record"),
    "no class": (lambda: "Thing", "'Thing' is no record type"),
    "an EmbeddedDocument": (lambda: type("Inner", (me.EmbeddedDocument,), {}), "Inner is no record type"),
    "an abstract one": (lambda: type("Base", (Record,), {"meta": {"abstract": True}}), "Base is abstract"),
}


@pytest.mark.parametrize(("make", "say"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_stops_the_start_with_one_sentence(make: Making, say: str) -> None:
    with pytest.raises(InvalidDocument) as refused:
        derive(make())
    said = str(refused.value)
    assert re.search(say.removesuffix("?"), said), said
    assert "\n" not in said
    assert len(said) < 200


TAKEN: dict[str, tuple[Callable[[], list[Any]], str]] = {
    "a path": (lambda: [declared("batch")], "Thing has the collection 'batch', but the path /v1/batch is taken"),
    "accounts": (lambda: [declared("accounts")], "'accounts', in which the service keeps Account"),
    "sessions": (lambda: [declared("sessions")], "'sessions', in which the service keeps Session"),
    "the export": (lambda: [declared("account")], "the path /v1/account is taken"),
    "another's": (lambda: [Note, Notebook, declared("notes")], "Thing has the collection 'notes', and so has Note"),
    "twice": (lambda: [Note, Notebook, Note], "Note is listed twice as a record type"),
}


@pytest.mark.parametrize(("make", "say"), TAKEN.values(), ids=TAKEN)
def test_a_collection_that_is_taken_stops_the_start(make: Callable[[], list[Any]], say: str) -> None:
    with pytest.raises(InvalidDocument, match=say):
        Registry(make())


def test_the_paths_that_are_taken_are_those_of_the_routes(app: Flask) -> None:
    rules = [rule.rule.split("/") for rule in app.url_map.iter_rules() if rule.rule.startswith("/v1/")]
    types = {document._meta["collection"] for document in RECORDS}
    elsewhere = {"account", "memberships", "functions", "uploads", "identities", "passkeys", "second_factor"}
    elsewhere |= {"push"}
    assert {parts[2] for parts in rules} - types == TAKEN_PATHS - elsewhere


def test_what_the_export_has_beside_records_is_taken() -> None:
    assert of_everything(REGISTRY)["properties"].keys() - REGISTRY.keys() <= TAKEN_PATHS


def test_what_the_streams_answer_is_taken(streams: Served) -> None:
    paths = [route.path for route, _ in streams.app.router.routes if route.path.startswith("/v1/")]
    assert "/v1/uploads" in paths
    assert {path.split("/")[2] for path in paths} - {*REGISTRY, "<type>"} <= TAKEN_PATHS


def test_names_that_end_like_an_endpoint_are_free(make_app: Any) -> None:
    types = [declared(name) for name in ("thing", "thing-item", "own-account")]
    rules = {rule.rule for rule in make_app(documents=types).url_map.iter_rules()}
    assert {"/v1/thing/<id>", "/v1/thing-item/<id>", "/v1/own-account/<id>"} <= rules


@pytest.mark.all_types
@pytest.mark.parametrize("document", [*RECORDS, *SYSTEM])
def test_our_own_documents_declare_nothing_that_nobody_knows(document: Any) -> None:
    declarations.check_meta(document.__name__, document._meta)
    declarations.check_fields(document, document.__name__, set())


def test_every_argument_that_is_known_is_used_or_on_the_page() -> None:
    told = Record.__doc__ or ""
    assert {name for name in declarations.ARGUMENTS if f"`{name}" not in told} == set()


@pytest.mark.parametrize(
    "make",
    [
        lambda: me.StringField(help_text="a", read_only=True, min_length=0, max_length=0),
        lambda: me.IntField(min_value=3, max_value=3, default=3),
        lambda: me.DecimalField(min_value=0, max_value=2.5, default=1),
        lambda: me.StringField(choices=[("a", "first"), ("b", "second")], default="a"),
        lambda: me.ListField(me.StringField(min_length=1), required=True),
        lambda: me.DateTimeField(default=lambda: __import__("datetime").datetime(2026, 1, 1)),
        lambda: me.DictField(default=lambda: {"a": [1]}),
        lambda: embedded(a=me.StringField(required=True)),
        lambda: WideField(wide=True, max_length=3),
        lambda: me.ReferenceField(Account, fixed=True),
        lambda: me.StringField(null=True, sparse=True, db_field="other"),
    ],
)
def test_what_is_right_passes(make: Callable[[], BaseField]) -> None:
    derive(declared(a=make()))


def test_an_unsupported_field_is_still_told_as_one() -> None:
    with pytest.raises(UnsupportedField, match=r"Thing\.a is a DynamicField"):
        derive(declared(a=me.DynamicField()))
