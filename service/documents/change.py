"""Changes: the newest number of each record in the one order of all changes, with who is to hear of it."""

from mongoengine import BooleanField, DateTimeField, Document, IntField, ListField, LongField, StringField


class Change(Document):
    """One for each record, one for each right that was withdrawn, one for each membership of an account.

    The recorder alone writes them (`service/changes/recorder.py`). What it makes of a record that was written
    again replaces what it made before, so there are as many as there are records, not as many as there were writes.
    """

    id = StringField(primary_key=True, help_text="type and id of the record; of a withdrawal its mark behind it")
    seq = LongField(required=True, help_text="its number in the order")
    type = StringField(required=True)
    record = StringField(required=True, help_text="id of the record, or of the account of a membership")
    # Who hears of it (`policy.marks`), and at which number each of them came to it.
    marks = ListField(StringField())
    since = ListField(LongField())
    # Of the record when it was recorded: the comparison after a gap goes by it.
    revision = IntField()
    gone = BooleanField()
    # At which number the record came into the order; of those from before this was kept there is none.
    first = LongField()
    # Of a membership: the numbers from which to which it was held; the last one is open while it is.
    held = ListField(ListField(LongField()))
    # When a change is forgotten that only tells of an end.
    purge_at = DateTimeField()

    meta = {
        "collection": "changes",
        "auto_create_index": False,
        "indexes": [
            ("marks", "type", "seq"),
            ("type", "seq"),
            {"fields": ["purge_at"], "sparse": True},
        ],
    }
