"""One-time codes: what is sent to an address, to be typed or followed by whoever reads it."""

from mongoengine import DateTimeField, Document, IntField, StringField


class OneTimeCode(Document):
    """A code, and maybe a link, that is good once, for a while and for one purpose; what is stored are their hashes."""

    # A hash of the purpose and of whom it is for: another one for the same takes its place.
    id = StringField(primary_key=True)
    purpose = StringField(required=True)
    # The account that it concerns; None where the address has none.
    account = StringField()
    # The address that it was sent to, and its key.
    address = StringField(required=True)
    address_key = StringField(required=True)
    # What the account could be entered with when it was sent, as a hash: a change makes the code void.
    stamp = StringField()
    code_hash = StringField(required=True)
    token_hash = StringField(required=True)
    tries = IntField(required=True, help_text="how often a code was given, right or wrong")
    expires_at = DateTimeField(required=True)

    meta = {
        "collection": "one_time_codes",
        "auto_create_index": False,
        "indexes": [
            {"fields": ["token_hash"], "unique": True},
            "account",
            {"fields": ["expires_at"], "expireAfterSeconds": 0},
        ],
    }
