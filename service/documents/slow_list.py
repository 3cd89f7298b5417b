"""Slow lists: what kind of list clients asked for that took long, and how much of an index MongoDB walked for it."""

from mongoengine import DateTimeField, Document, FloatField, IntField, LongField, StringField

SLOW_LIST_SECONDS = 7 * 24 * 3600
"""How long one is kept after it was last seen, in seconds."""


class SlowList(Document):
    """One kind of list that was slow: fields and operators, never what they were compared with."""

    id = StringField(primary_key=True, help_text="a hash of the kind")
    type = StringField(required=True)
    kind = StringField(required=True, help_text="what was asked for, without values")
    index = StringField(required=True, help_text="the index of its sort; empty for a search, or what is near")
    times = LongField(required=True, help_text="how often it was slow")
    seconds = FloatField(required=True, help_text="the longest that it took")
    keys = LongField(help_text="how many keys of the index were walked for one of them")
    found = IntField(help_text="how many records were found by it")
    last = DateTimeField(required=True)

    meta = {
        "collection": "slow_lists",
        "auto_create_index": False,
        "indexes": [{"fields": ["last"], "expireAfterSeconds": SLOW_LIST_SECONDS}],
    }
