"""Migration runs: how far the migration of a collection has come."""

from mongoengine import DateTimeField, Document, IntField, StringField


class MigrationRun(Document):
    """The last run through a collection that brought its documents to a version, or made the words of its records."""

    id = StringField(primary_key=True, help_text="name of the collection, or of its words")
    # One that begins anew has another number, so that one that still goes on does not move its position.
    run = StringField(required=True)
    to_version = IntField(required=True)
    # Of a walk that makes words: which ones (`service/upkeep/wording.py`).
    form = StringField()
    position = StringField(required=True, help_text="id of the last document that was looked at")
    looked_at = IntField(required=True)
    changed = IntField(required=True)
    started_at = DateTimeField(required=True)
    finished_at = DateTimeField()

    meta = {"collection": "migrations", "auto_create_index": False}
