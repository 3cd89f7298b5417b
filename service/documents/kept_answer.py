"""Kept answers: what a retried request gets a second time."""

from mongoengine import BinaryField, DateTimeField, Document, IntField, ListField, StringField


class KeptAnswer(Document):
    """The first answer to a request with an idempotency key, kept for a day."""

    id = StringField(primary_key=True)
    account = StringField(required=True)
    request = BinaryField(required=True)
    status = IntField()
    headers = ListField()
    body = BinaryField()
    expires_at = DateTimeField(required=True)

    meta = {
        "collection": "kept_answers",
        "auto_create_index": False,
        "indexes": ["account", {"fields": ["expires_at"], "expireAfterSeconds": 0}],
    }
