"""Notes: the record type that shows every kind of field."""

from mongoengine import (
    NULLIFY,
    BooleanField,
    DateTimeField,
    EmbeddedDocument,
    EmbeddedDocumentListField,
    IntField,
    ListField,
    PointField,
    ReferenceField,
    StringField,
)

from service.documents.notebook import Notebook
from service.documents.record import Record


class ChecklistItem(EmbeddedDocument):
    """A line of a checklist."""

    text = StringField(required=True, min_length=1, max_length=200)
    done = BooleanField(default=False)


class Note(Record):
    """A text with a title and, if wanted, a place, a time and a list of things to do."""

    title = StringField(required=True, min_length=1, max_length=200, collation="en")
    body = StringField(max_length=100_000, default="")
    tags = ListField(StringField(min_length=1, max_length=40), max_length=20)
    pinned = BooleanField(default=False)
    priority = IntField(min_value=0, max_value=5, default=0)
    due = DateTimeField()
    place = PointField(auto_index=False)
    checklist = EmbeddedDocumentListField(ChecklistItem, max_length=100)
    notebook = ReferenceField(Notebook, reverse_delete_rule=NULLIFY)

    meta = {
        "collection": "notes",
        "sorts": [
            *("updated_at", "-updated_at", "created_at", "-created_at", "title", "-title"),
            *("due", "-due", "priority", "-priority", "-priority,due"),
        ],
        "filters": [
            *("id", "owner", "created_at", "updated_at", "revision"),
            *("title", "tags", "pinned", "priority", "due", "place", "checklist.text", "checklist.done", "notebook"),
        ],
        "search": ["title", "body"],
    }
