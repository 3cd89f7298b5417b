"""Push receipts: which records a device has just sent, while its answer may be under way."""

from mongoengine import DateTimeField, Document, ListField, LongField, StringField


class PushReceipt(Document):
    """The records of one push of one type, by a session."""

    id = StringField(primary_key=True)
    account = StringField(required=True)
    session = StringField(required=True)
    type = StringField(required=True)
    records = ListField(StringField(), help_text="their ids")
    # The last number of the order when it came.
    seq = LongField(required=True)
    expires_at = DateTimeField(required=True)

    meta = {
        "collection": "push_receipts",
        "auto_create_index": False,
        "indexes": [("session", "type"), "account", {"fields": ["expires_at"], "expireAfterSeconds": 0}],
    }
