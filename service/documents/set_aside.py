"""Changes of which a hook could not make anything yet: tried again later, and at last set aside."""

from mongoengine import BooleanField, DateTimeField, Document, IntField, LongField, StringField


class SetAside(Document):
    """A record whose `after_change` has failed. A newer change of it takes its place, and success ends it."""

    id = StringField(primary_key=True, help_text="type and id of the record")
    type = StringField(required=True)
    record = StringField(required=True)
    seq = LongField(required=True, help_text="number of the change in the order")
    created = BooleanField(required=True, help_text="whether the hook has never taken the record")
    state = StringField(required=True, choices=("waiting", "set_aside"))
    tries = IntField(required=True)
    due_at = DateTimeField(required=True)
    reason = StringField(help_text="the class of the last error")
    since = DateTimeField(required=True)

    meta = {"collection": "set_aside", "auto_create_index": False, "indexes": [("type", "state", "due_at")]}
