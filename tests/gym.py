"""Record types of somebody's own: every kind of field, and names that are words of other languages."""

from enum import Enum

import mongoengine as me

from service.documents.account import Account
from service.documents.notebook import Notebook
from service.documents.record import Record


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


class Machine(me.EmbeddedDocument):
    """What one trains on."""

    name = me.StringField(required=True, max_length=40)
    weight_kg = me.FloatField(min_value=0)
    serial = me.LongField()
    state = me.StringField(choices=("new", "worn out"), default="new")
    bought = me.DateField()
    keeper = me.ReferenceField(Account)


class Gym(Record):
    """Where one trains."""

    name = me.StringField(required=True, max_length=100)
    kind = me.StringField(choices=("public", "members only", "24/7"), default="public", help_text="who may come in")
    level = me.IntField(choices=(1, 2, 3))
    mood = me.EnumField(Mood)
    members = me.LongField(min_value=0, default=0)
    steps = me.LongField(as_string=True)
    rating = me.FloatField(min_value=0, max_value=5)
    fee = me.DecimalField(min_value=0, precision=2)
    tax = me.Decimal128Field()
    opened = me.DateField()
    serviced = me.DateTimeField()
    serial = me.UUIDField()
    part = me.ObjectIdField()
    place = me.PointField(auto_index=False)
    route = me.LineStringField(auto_index=False)
    area = me.PolygonField(auto_index=False)
    corner = me.GeoPointField()
    site = me.URLField()
    contact = me.EmailField()
    logo = me.BinaryField(max_bytes=1000)
    hours = me.MapField(me.StringField(max_length=40))
    extra = me.DictField()
    machines = me.EmbeddedDocumentListField(Machine, max_length=50)
    best = me.EmbeddedDocumentField(Machine)
    rooms = me.MapField(me.EmbeddedDocumentField(Machine))
    grid = me.ListField(me.ListField(me.IntField()))
    moods = me.ListField(me.EnumField(Mood))
    trainers = me.ListField(me.ReferenceField(Account))
    book = me.ReferenceField(Notebook, reverse_delete_rule=me.NULLIFY)
    by_day = me.MapField(me.ReferenceField(Notebook))
    default = me.StringField()
    object = me.StringField()
    open = me.BooleanField(default=False)

    meta = {
        "collection": "gyms",
        "sorts": ["-updated_at", "name", "-rating"],
        "filters": ["name", "kind"],
        "search": ["name"],
    }


class Visit(Record):
    """A visit of a gym, which has to be named."""

    gym = me.ReferenceField(Gym, required=True, reverse_delete_rule=me.CASCADE)
    at = me.DateTimeField(required=True)

    meta = {"collection": "visits"}
