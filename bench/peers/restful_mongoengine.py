"""Flask-RESTful, MongoEngine and Flask-JWT-Extended the usual way: parser, document, `marshal_with`."""

import os
from datetime import UTC, datetime
from typing import Any

import mongoengine as me
from flask import Flask
from flask_jwt_extended import JWTManager, create_access_token, create_refresh_token, get_jwt_identity, jwt_required
from flask_restful import Api, Resource, abort, fields, inputs, marshal_with, reqparse

app = Flask(__name__)
app.config["JWT_SECRET_KEY"] = os.environ["BENCH_SECRET"]
# Flask-RESTful would answer 500 for what Flask-JWT-Extended raises.
app.config["PROPAGATE_EXCEPTIONS"] = True
me.connect(host=os.environ["BENCH_URI"], connect=False)
jwt = JWTManager(app)
api = Api(app)


def now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC).replace(tzinfo=None)


class ChecklistItem(me.EmbeddedDocument):
    """A line of a checklist."""

    text = me.StringField(required=True, min_length=1, max_length=200)
    done = me.BooleanField(default=False)


class Note(me.Document):
    """A note."""

    owner = me.StringField(required=True)
    title = me.StringField(required=True, min_length=1, max_length=200)
    body = me.StringField(max_length=100_000, default="")
    tags = me.ListField(me.StringField(min_length=1, max_length=40), max_length=20)
    pinned = me.BooleanField(default=False)
    priority = me.IntField(min_value=0, max_value=5, default=0)
    due = me.DateTimeField()
    place = me.PointField(auto_index=False)
    checklist = me.EmbeddedDocumentListField(ChecklistItem, max_length=100)
    notebook = me.StringField()
    created_at = me.DateTimeField(default=now)
    updated_at = me.DateTimeField(default=now)
    revision = me.IntField(default=1)

    meta = {"collection": "notes", "auto_create_index": False, "indexes": [("owner", "-updated_at", "-id")]}


TIME = fields.DateTime(dt_format="iso8601")
NOTE = {
    "id": fields.String,
    "owner": fields.String,
    "title": fields.String,
    "body": fields.String,
    "tags": fields.List(fields.String),
    "pinned": fields.Boolean,
    "priority": fields.Integer,
    "due": TIME,
    "place": fields.Raw,
    "checklist": fields.List(fields.Nested({"text": fields.String, "done": fields.Boolean})),
    "notebook": fields.String,
    "created_at": TIME,
    "updated_at": TIME,
    "revision": fields.Integer,
}


def time(text: str) -> datetime:
    """Return the UTC time that a text names."""
    return inputs.datetime_from_iso8601(text).astimezone(UTC).replace(tzinfo=None)


def parser(title_required: bool) -> reqparse.RequestParser:
    """Return the parser of a body."""
    made = reqparse.RequestParser(bundle_errors=True)
    given: dict[str, Any] = {"location": "json", "store_missing": False}
    made.add_argument("title", type=str, required=title_required, **given)
    made.add_argument("body", type=str, **given)
    made.add_argument("tags", type=str, action="append", **given)
    made.add_argument("pinned", type=inputs.boolean, **given)
    made.add_argument("priority", type=int, **given)
    made.add_argument("due", type=time, **given)
    made.add_argument("place", type=dict, **given)
    made.add_argument("checklist", type=dict, action="append", **given)
    made.add_argument("notebook", type=str, **given)
    return made


new_note, changed_note = parser(True), parser(False)
listed = reqparse.RequestParser()
listed.add_argument("pinned", type=inputs.boolean, location="args")
listed.add_argument("limit", type=inputs.int_range(1, 100), default=20, location="args")


def own_note(id: str) -> Note:
    """Return a note of the caller."""
    note = Note.objects(id=id, owner=get_jwt_identity()).first()
    if note is None:
        abort(404, message="not found")
    return note


def save(note: Note) -> Note:
    """Store a note that is right."""
    try:
        return note.save()
    except me.ValidationError as error:
        abort(422, message=str(error))


class NoteList(Resource):
    """All notes of the caller."""

    method_decorators = [jwt_required()]

    @marshal_with({"items": fields.List(fields.Nested(NOTE))})
    def get(self) -> dict[str, Any]:
        """Return the notes that were written last."""
        args = listed.parse_args()
        query = Note.objects(owner=get_jwt_identity())
        if args["pinned"] is not None:
            query = query.filter(pinned=args["pinned"])
        return {"items": list(query.order_by("-updated_at", "-id").limit(args["limit"]))}

    @marshal_with(NOTE)
    def post(self) -> tuple[Note, int]:
        """Store a new note."""
        args = new_note.parse_args(strict=True)
        lines = [ChecklistItem(**line) for line in args.pop("checklist", [])]
        return save(Note(**args, checklist=lines, owner=get_jwt_identity())), 201


class NoteItem(Resource):
    """One note."""

    method_decorators = [jwt_required()]

    @marshal_with(NOTE)
    def get(self, id: str) -> Note:
        """Return the note."""
        return own_note(id)

    @marshal_with(NOTE)
    def patch(self, id: str) -> Note:
        """Change some fields of the note."""
        args = changed_note.parse_args(strict=True)
        note = own_note(id)
        if "checklist" in args:
            args["checklist"] = [ChecklistItem(**line) for line in args["checklist"]]
        for name, value in args.items():
            setattr(note, name, value)
        note.updated_at = now()
        note.revision += 1
        return save(note)


class Refresh(Resource):
    """Where tokens are renewed."""

    @jwt_required(refresh=True)
    def post(self) -> dict[str, str]:
        """Return new tokens for the refresh token in the header."""
        account = get_jwt_identity()
        return {"access_token": create_access_token(account), "refresh_token": create_refresh_token(account)}


api.add_resource(NoteList, "/notes")
api.add_resource(NoteItem, "/notes/<id>")
api.add_resource(Refresh, "/refresh")
