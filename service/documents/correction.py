"""Corrections: what the devices of an account are told once more, for they may have it otherwise."""

from mongoengine import DateTimeField, Document, LongField, StringField


class Correction(Document):
    """A record as to which a device has sent what was not stored: its next pull brings the record as it is, or its end.

    There is one for each record and account, so a push that comes again leaves no second one.
    """

    id = StringField(primary_key=True, help_text="account, type and id of the record")
    account = StringField(required=True)
    type = StringField(required=True)
    record = StringField(required=True, help_text="id that the device gave it; there may be no such record")
    # The last number of the order when it was refused: who comes from there or from before has to be told.
    seq = LongField(required=True)
    expires_at = DateTimeField(required=True)

    meta = {
        "collection": "corrections",
        "auto_create_index": False,
        "indexes": [("account", "seq"), {"fields": ["expires_at"], "expireAfterSeconds": 0}],
    }
