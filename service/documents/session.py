"""Sessions: one login on one device, which lives as long as it is used."""

from mongoengine import DateTimeField, Document, EmbeddedDocumentField, IntField, StringField

from service.documents.push_registration import PushRegistration


class Session(Document):
    """A login. A session that has ended is deleted, and its tokens are dead with it."""

    id = StringField(primary_key=True)
    account = StringField(required=True, hidden=True)
    device = StringField(max_length=80)
    created_at = DateTimeField(required=True)
    last_used_at = DateTimeField(required=True)
    address = StringField()

    # When the password was given, in seconds since the epoch: the claim `auth_time`.
    auth_time = IntField(required=True, hidden=True)
    expires_at = DateTimeField(required=True, hidden=True)
    # SHA-256 of the secret in the refresh token that is good now, and in the one before; the tokens are nowhere.
    refresh_hash = StringField(required=True, hidden=True)
    previous_hash = StringField(hidden=True)
    rotated_at = DateTimeField(hidden=True)
    # Where notifications reach the device; there is none until it says so.
    push = EmbeddedDocumentField(PushRegistration, hidden=True)

    # When the device is to hear that there is something new for it, and when it did last.
    wake_at = DateTimeField(hidden=True)
    woken_at = DateTimeField(hidden=True)
    # Until when it counts as one that has a live connection.
    live_until = DateTimeField(hidden=True)

    meta = {
        "collection": "sessions",
        "auto_create_index": False,
        "indexes": [
            "account",
            {"fields": ["expires_at"], "expireAfterSeconds": 0},
            {"fields": ["push.key"], "unique": True, "sparse": True},
            {"fields": ["push.topics", "id"], "sparse": True},
            {"fields": ["wake_at"], "sparse": True},
        ],
    }
