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
    # Bytes that it takes, about.
    size = IntField()
    # Accounts beside its own whose content stands in the body. When one of them goes the body does: no retry gets it
    # then, and none does its work again.
    others = ListField(StringField())
    # Records of others of which something may stand in the body, by type and by the account that has read them.
    noted = ListField()
    expires_at = DateTimeField(required=True)

    meta = {
        "collection": "kept_answers",
        "auto_create_index": False,
        "indexes": [
            ("account", "size"),
            {"fields": ["others"], "sparse": True},
            {"fields": ["expires_at"], "expireAfterSeconds": 0},
        ],
    }
