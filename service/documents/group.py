"""Groups: people who share records with one another."""

from mongoengine import StringField

from service.documents.record import Record


class Group(Record):
    """People who share records: what is given to `group:<id>` all its members may read or write.

    It belongs to itself: its members read it, and its managers do what an owner may. Who they are stands on their
    accounts (`service/identity/memberships.py`).
    """

    name = StringField(required=True, min_length=1, max_length=100, collation="en")

    meta = {
        "collection": "groups",
        "sorts": ["updated_at", "-updated_at", "created_at", "-created_at", "name", "-name"],
        "filters": ["id", "owner", "created_at", "updated_at", "revision", "name"],
    }
