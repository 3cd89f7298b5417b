"""Awaited references: what a device refers to that has not come yet, and since when that is so."""

from mongoengine import DateTimeField, DictField, Document, ListField, StringField


class AwaitedReference(Document):
    """What the records refer to that a session sends of one type, and that is not there: its push comes again."""

    id = StringField(primary_key=True, help_text="session and type")
    account = StringField(required=True)
    awaited = ListField(DictField(), help_text="for each: `target`, its type and id, and `since`")
    expires_at = DateTimeField(required=True)

    meta = {
        "collection": "awaited_references",
        "auto_create_index": False,
        "indexes": ["account", {"fields": ["expires_at"], "expireAfterSeconds": 0}],
    }
