"""Sessions: one login on one device, which lives as long as it is used."""

from mongoengine import DateTimeField, Document, IntField, StringField

from service.documents.record import new_id, now


class Session(Document):
    """A login. A session that has ended is deleted, and its tokens are dead with it."""

    id = StringField(primary_key=True, default=new_id)
    account = StringField(required=True)
    device = StringField(max_length=80)
    address = StringField()
    created_at = DateTimeField(default=now, required=True)
    last_used_at = DateTimeField(default=now, required=True)
    auth_time = IntField(required=True)
    expires_at = DateTimeField(required=True)
    # SHA-256 of the refresh token that is good now; the token itself is nowhere.
    refresh_hash = StringField(required=True)

    meta = {
        "collection": "sessions",
        "auto_create_index": False,
        "indexes": ["account", {"fields": ["expires_at"], "expireAfterSeconds": 0}],
    }
