"""The outbox: what has to be sent or done later, stored in the transaction of the write that causes it."""

from mongoengine import BinaryField, BooleanField, DateTimeField, DictField, Document, IntField, StringField

STATES = ("waiting", "sent", "failed")


class OutboxItem(Document):
    """Something that a worker sends or does: a mail, a job, and what other kinds there will be.

    A worker that takes it moves `due_at` behind the time that it needs, so no other takes it meanwhile; `tries` is the
    epoch of that. Times that decide are MongoDB's.
    """

    id = StringField(primary_key=True, help_text="made of the deduplication key where there is one")
    kind = StringField(required=True, help_text="which sender it is for")
    state = StringField(required=True, choices=STATES)
    # What a person may see of it: for a mail its address, template and language.
    content = DictField(required=True)
    # What nobody may see: codes and links, encrypted. Gone when it is sent, or of no more use.
    sealed = BinaryField()
    # What it says to somebody, who may not want it to stay: it goes when it is sent, or of no more use.
    message = DictField()
    # It is removed when it has come to its end, whatever that is.
    brief = BooleanField()
    # Whose deletion takes it along.
    account = StringField()
    tries = IntField(required=True)
    # Of the tries those that count: not those that were cut short by the end of a worker, nor those before a repeat.
    attempts = IntField()
    # Which worker has it, or had it when it died.
    worker = StringField()
    # The lower, the sooner; what has none comes first.
    priority = IntField()
    # Of those with one key that nobody has taken yet there is one; `enqueued` counts how often it was asked for.
    key = StringField()
    enqueued = IntField()
    # Of those that share this one is at work at a time, namely that which has it in `at_work` too.
    alone = StringField()
    at_work = StringField()
    # Somebody does not want it any more, while a worker has it.
    cancelled = BooleanField()
    # How far it is, as it says itself.
    progress = DictField()
    due_at = DateTimeField(required=True)
    created_at = DateTimeField(required=True)
    # After it nobody has any use for it.
    until = DateTimeField()
    sent_at = DateTimeField()
    # Why the last try failed.
    reason = StringField()
    expires_at = DateTimeField()

    meta = {
        "collection": "outbox",
        "auto_create_index": False,
        "indexes": [
            ("state", "kind", "due_at"),
            ("state", "kind", "priority", "due_at"),
            ("kind", "state", "created_at"),
            {"fields": ["key"], "unique": True, "sparse": True},
            {"fields": ["at_work"], "unique": True, "sparse": True},
            {"fields": ["account"], "sparse": True},
            {"fields": ["content.schedule"], "sparse": True},
            {"fields": ["expires_at"], "expireAfterSeconds": 0},
        ],
    }
