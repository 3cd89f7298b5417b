"""What an admin has deleted in the console: the content of a record, for as long as its tombstone lasts."""

from mongoengine import DateTimeField, DictField, Document, IntField, StringField


class DeletedContent(Document):
    """The content of one record that was deleted in the console, so that the deletion can be undone."""

    id = StringField(primary_key=True, help_text="the name of the type, a slash, and the id of the record")
    type = StringField(required=True)
    record = StringField(required=True)
    owner = StringField(required=True, help_text="the account whose data these are; they go with it")
    revision = IntField(required=True, help_text="of the tombstone")
    form = IntField(required=True, help_text="the version of the stored form")
    content = DictField(required=True)
    deleted_at = DateTimeField(required=True)
    expires_at = DateTimeField(required=True, help_text="when the tombstone goes")

    meta = {
        "collection": "deleted_contents",
        "auto_create_index": False,
        "indexes": [
            ("type", "-deleted_at"),
            ("owner",),
            {"fields": ["expires_at"], "expireAfterSeconds": 0},
        ],
    }
