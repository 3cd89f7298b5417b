"""Forms of records in the console: to make one, to change one, and to delete one."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any

import orjson
from flask import current_app, request, url_for

from service.context import current_registry
from service.core.errors import AlreadyExists, NotFound, Problem, QuotaExceeded, RevisionMismatch, ValidationFailed
from service.core.ids import new_id
from service.http.openapi import operation
from service.http.web import Answer
from service.identity.admin_log import changed_parts
from service.model.field import Field
from service.model.patch import parse as parse_patch
from service.model.record_type import RecordType
from service.mongo import transactions
from service.mongo.raw import Raw
from service.pages.account import ABOUT
from service.pages.console_files import FILES_NAME, Preview, preview
from service.pages.console_inputs import Inputs, inputs
from service.pages.console_maps import pressed_map
from service.pages.console_records import all_records, found_record, named_type, owner_named, pretty, unreadable_at
from service.pages.console_sign_in import BY_FORM
from service.pages.console_upload import FILE_INPUT, uploaded
from service.pages.console_values import (
    Flat,
    Reading,
    default_values,
    flattened,
    merge_patch,
    with_input,
    within,
    without_input,
)
from service.pages.console_visit import Visitor, for_admins, go
from service.records.acting import identity_of
from service.records.administering import AllRecords
from service.records.precondition import Precondition
from service.records.undoing import hindrance, keep_content
from service.records.writing import Writer, refuse_file

REVISION = re.compile("[0-9]{1,9}")


@dataclass(slots=True)
class RecordForm:
    """A form of a record, as it was sent or as it is shown first.

    `was` are hashes of the values that its fields had when it was made: so we know what a person has changed, and what
    somebody else has meanwhile.
    """

    records: Writer
    fields: Mapping[str, Field]
    flat: Flat
    revision: int = 0
    was: Mapping[str, str] | None = None
    owner: str = ""
    button: str = ""

    def read(self) -> dict[str, Any]:
        """Return the JSON that it says. Raises `ValidationFailed`."""
        return Reading(self.flat).body(self.fields)

    def inputs(self, problem: Problem | None = None) -> Inputs:
        """Return its inputs, with what is wrong at each."""
        reading = Reading(self.flat)
        reading.members(self.fields, "", "")
        return inputs(self.fields, self.flat, problem.causes if problem is not None else (), reading.moved, self.button)


def hashes(values: Mapping[str, Any]) -> dict[str, str]:
    """Return a hash of each value in JSON."""
    texts = ((name, json.dumps(value, sort_keys=True)) for name, value in values.items())
    return {name: sha256(text.encode()).hexdigest()[:16] for name, text in texts}


def patched_fields(type: RecordType) -> dict[str, Field]:
    """Return the fields that a form of a record changes."""
    return with_sharing_last({name: field for name, field in type.schema.fields.items() if field.is_patched})


def created_fields(type: RecordType) -> dict[str, Field]:
    """Return the fields that a form of a new record says."""
    given = {name: field for name, field in type.schema.fields.items() if field.is_given_by_clients or field.is_id}
    return with_sharing_last(given)


def with_sharing_last(fields: Mapping[str, Field]) -> dict[str, Field]:
    """Return fields in the order in which a person comes to them: what the type itself declares comes first."""
    return dict(sorted(fields.items(), key=lambda one: one[1].owner_only))


def record_form(records: Writer, fields: Mapping[str, Field]) -> RecordForm:
    """Return the form that was sent."""
    sent = request.form
    flat = {name: text for name, text in sent.items() if name.startswith("/")}
    was, owner = sent_hashes(sent.get("was", "")), sent.get("owner", "")
    return RecordForm(records, fields, flat, sent_revision(), was, owner, sent.get("do", "save"))


def sent_revision() -> int:
    """Return the revision that a form was made on; 0, which no record has, for what is none."""
    text = request.form.get("revision", "")
    return int(text) if REVISION.fullmatch(text) else 0


def sent_hashes(text: str) -> dict[str, str]:
    """Return what a form says of the values that its fields had; nothing where it says nothing sensible."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def with_button(visitor: Visitor, form: RecordForm) -> bool:
    """Do to the form what its button, or its map, asks for, other than to save; tell whether it was that."""
    if (pressed := pressed_map(request.form)) is not None:
        at, texts = pressed
        form.flat |= texts if f"{at}#lon" in form.flat else {}
        form.button = f"map {at}"
        return True
    verb, _, at = form.button.partition(" ")
    if verb == "upload" and at in form.flat:
        form.flat[at] = str(uploaded(visitor, form.owner, request.files.get(FILE_INPUT + at))["_id"])
    elif verb == "add":
        form.flat = with_input(form.flat, form.fields, at)
    elif verb == "remove":
        form.flat = without_input(form.flat, at)
    return verb in ("add", "remove", "upload")


@operation("Show the form of a record", **ABOUT)
@for_admins
def edit_page(visitor: Visitor, name: str, id: str) -> Answer:
    """Show the form with what is stored."""
    records = all_records(visitor, name)
    record = found_record(records, id)
    visitor.log.note("read", name, id, record["owner"])
    return shown_form(visitor, form_for(records, record), id)


def form_for(records: Writer, record: Raw) -> RecordForm:
    """Return the form with what is stored of a record. Raises `Unreadable`."""
    records.type.schema.check_readable(record)
    fields = patched_fields(records.type)
    flat = flattened(fields, records.type.schema.dump(record))
    return RecordForm(records, fields, flat, record["revision"], hashes(Reading(flat).body(fields)), record["owner"])


def shown_form(
    visitor: Visitor,
    form: RecordForm,
    id: str = "",
    problem: Problem | None = None,
    conflicts: Any = (),
    status: int = 200,
) -> Answer:
    """Return the page with a form; `conflicts` are fields that somebody else has changed as well."""
    made = form.inputs(problem)
    return visitor.shown(
        "console/form.html",
        status,
        type=form.records.type,
        id=id,
        form=form,
        was=orjson.dumps(form.was or {}).decode(),
        inputs=made,
        previews=previews_of(visitor, made),
        problem=problem,
        conflicts=conflicts,
        pretty=pretty,
    )


def previews_of(visitor: Visitor, made: Inputs) -> dict[str, Preview]:
    """Return the previews of the files that the references of a form name, by the names of their inputs."""
    named = {at: one.text for at, one in made.by_name.items() if one.target == FILES_NAME and one.text}
    found = {at: preview(visitor, file) for at, file in named.items()}
    return {at: one for at, one in found.items() if one is not None}


@operation("Change a record by its form", **BY_FORM, **ABOUT)
@for_admins
def change_record(visitor: Visitor, name: str, id: str) -> Answer:
    """Store what was changed in the form, if nobody else has changed the record meanwhile."""
    records = all_records(visitor, name)
    form = record_form(records, patched_fields(records.type))
    try:
        if with_button(visitor, form):
            return shown_form(visitor, form, id)
        transactions.run_where_there_are(lambda: change_by_form(visitor, form, id))
    except RevisionMismatch:
        return conflicting(visitor, form, id)
    except (ValidationFailed, AlreadyExists, QuotaExceeded) as problem:
        return shown_form(visitor, form, id, problem)
    return go(url_for("record_page", name=name, id=id))


def change_by_form(visitor: Visitor, form: RecordForm, id: str) -> None:
    """Change the record by what differs in the form from what is stored, and write it into the log."""
    records = form.records
    before = found_record(records, id)
    precondition = Precondition(match=(form.revision,))
    precondition.check(before["revision"])
    said = form.read()
    stored = form_for(records, before).read()
    patch = merge_patch(stored, {**stored, **said})
    if not patch:
        return
    after = records.patch(id, parse_patch(records.type.schema, patch), precondition)
    dump = records.type.schema.dump
    parts = changed_parts(dump(before), dump(after))
    visitor.log.note("changed", records.type.name, id, before["owner"], before=parts[0], after=parts[1])


def conflicting(visitor: Visitor, form: RecordForm, id: str) -> Answer:
    """Return the form with both side by side: what is stored by now, and what was changed here.

    What only the other has changed is taken over, so that to save undoes nothing of theirs that nobody saw.
    """
    said = form.read()
    newest = form_for(form.records, found_record(form.records, id))
    stored, was, mine = newest.read(), form.was or {}, hashes(said)
    conflicts = []
    for field in form.fields:
        if mine.get(field) == was.get(field):
            continue
        newest.flat = {name: text for name, text in newest.flat.items() if not within(name, f"/{field}")}
        newest.flat |= {name: text for name, text in form.flat.items() if within(name, f"/{field}")}
        if (newest.was or {}).get(field) not in (was.get(field), mine.get(field)):
            conflicts.append((field, stored.get(field), said.get(field)))
    return shown_form(visitor, newest, id, RevisionMismatch(), conflicts, RevisionMismatch.status)


# --- To make one, and to delete one ----------------------------------------------------------------------------------


@operation("Show the form of a new record", **ABOUT)
@for_admins
def new_page(visitor: Visitor, name: str) -> Answer:
    """Show an empty form. It has an id already, so that sent twice it makes one record."""
    records = all_records(visitor, name)
    refuse_file(records.type)
    fields = created_fields(records.type)
    flat = flattened(fields, {**default_values(records.type.schema, fields), "id": new_id()})
    return shown_form(visitor, RecordForm(records, fields, flat, owner=visitor.who.account))


@operation("Make a record by its form", **BY_FORM, **ABOUT)
@for_admins
def make_record(visitor: Visitor, name: str) -> Answer:
    """Store a new record of the account that the form names, as that account would."""
    type = named_type(name)
    refuse_file(type)
    form = record_form(all_records(visitor, name), created_fields(type))
    try:
        if with_button(visitor, form):
            return shown_form(visitor, form)
        made = transactions.run_where_there_are(lambda: create_by_form(visitor, form, type))
    except (ValidationFailed, AlreadyExists, NotFound, QuotaExceeded) as problem:
        return shown_form(visitor, form, "", problem)
    return go(url_for("record_page", name=name, id=made["_id"]))


def create_by_form(visitor: Visitor, form: RecordForm, type: RecordType) -> Raw:
    """Store the record, and write it into the log. Raises `NotFound` where there is no such owner."""
    owner = identity_of(owner_named(form.owner))
    said = {name: value for name, value in form.read().items() if value is not None}
    record = Writer(current_registry(), type, owner).create(type.schema.load(said))
    visitor.log.note("created", type.name, record["_id"], record["owner"], after=type.schema.dump(record))
    return record


@operation("Ask before a record is deleted", **ABOUT)
@for_admins
def delete_page(visitor: Visitor, name: str, id: str) -> Answer:
    """Show what goes, with a button."""
    records = all_records(visitor, name)
    record = found_record(records, id)
    return visitor.shown(
        "console/delete.html",
        type=records.type,
        id=id,
        revision=record["revision"],
        why_not=hindrance(records.type, record),
        referrers=[(other.name, reference) for other, reference in current_registry().bound(records.type)],
    )


@operation("Delete a record", **BY_FORM, **ABOUT)
@for_admins
def delete_record(visitor: Visitor, name: str, id: str) -> Answer:
    """Leave a tombstone, if the record is as it was shown, and lead to where that can be undone."""
    records = all_records(visitor, name)
    precondition = Precondition(match=(sent_revision(),))
    transactions.run_where_there_are(lambda: delete_by_form(visitor, records, id, precondition))
    return go(url_for("deleted_page", name=name, id=id))


def delete_by_form(visitor: Visitor, records: AllRecords, id: str, precondition: Precondition) -> None:
    """Delete the record, keep what it was as long as its tombstone, and write that into the log."""
    before = found_record(records, id)
    keep = timedelta(days=current_app.config["TOMBSTONE_DAYS"])
    records.delete(id, keep, precondition)
    keep_content(records.type, before)
    visitor.log.note("deleted", records.type.name, id, before["owner"], before=readable(records, before))


def readable(records: AllRecords, record: Raw) -> dict[str, Any] | None:
    """Return a record in JSON form, None where JSON cannot say it."""
    return records.type.schema.dump(record) if unreadable_at(records, record) is None else None
