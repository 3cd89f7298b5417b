"""Notebooks: what notes are put into."""

from mongoengine import StringField

from service.documents.record import Record


class Notebook(Record):
    """A named and coloured collection of notes."""

    title = StringField(required=True, min_length=1, max_length=100, collation="en")
    colour = StringField(regex=r"^#[0-9a-fA-F]{6}$")

    meta = {
        "collection": "notebooks",
        "sorts": ["updated_at", "-updated_at", "created_at", "-created_at", "title", "-title"],
        "filters": ["id", "owner", "created_at", "updated_at", "revision", "title", "colour"],
    }
