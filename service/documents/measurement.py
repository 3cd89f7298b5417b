"""Measurements: what the processes of one start had counted at a minute, kept for a day and shown by the console."""

from mongoengine import DateTimeField, DictField, Document, ListField, LongField, StringField

MEASURED_SECONDS = 25 * 3600
"""How long one is kept, in seconds: a day, and the hour in which it began."""


class Measurement(Document):
    """What one start had counted since it began; the difference to the one before says what happened in between."""

    id = StringField(primary_key=True)
    time = DateTimeField(required=True)
    source = StringField(required=True, help_text="the start: a machine and its folder of metrics, or a process alone")
    counted = DictField(required=True, help_text="sums since the start, by name")
    buckets = ListField(LongField(), help_text="how many requests took at most so long, by `metrics.BUCKETS`")
    held = DictField(help_text="what is so at this moment, by name: seconds behind, items that wait, bytes")

    meta = {
        "collection": "measurements",
        "auto_create_index": False,
        "indexes": [{"fields": ["time"], "expireAfterSeconds": MEASURED_SECONDS}],
    }
