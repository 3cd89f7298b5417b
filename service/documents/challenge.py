"""Challenges: what is between two requests of one sign-in, or of one set-up of a way in."""

from mongoengine import BinaryField, DateTimeField, DictField, Document, IntField, ListField, StringField


class Challenge(Document):
    """Something that is asked of whoever has shown one thing already; good once, for a while and for one purpose."""

    # A hash of the purpose and of the token, which is nowhere stored, or of whom it is for.
    id = StringField(primary_key=True)
    account = StringField(required=True)
    # What the account could be entered with when it was made, as a hash: a change makes it void.
    stamp = StringField(required=True)
    tries = IntField(required=True, help_text="how often it was answered, right or wrong")
    # Of a sign-in: the device, and what the account has to have still to be entered, as pairs of field and value.
    device = StringField()
    way_in = ListField(DictField())
    # Of a set-up: the secret, encrypted.
    sealed = BinaryField()
    expires_at = DateTimeField(required=True)

    meta = {
        "collection": "challenges",
        "auto_create_index": False,
        "indexes": ["account", {"fields": ["expires_at"], "expireAfterSeconds": 0}],
    }
