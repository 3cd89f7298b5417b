"""Which input a field has in a form of the console: one table from what a field is to the kind of its input."""

from typing import Any

from mongoengine import fields as me

from service.model.field import Field
from service.model.fields import is_text
from service.model.json_schema import choices_of, of_value

Kind = str
"""What an input is: a name that the templates go by."""

INPUT_KINDS: tuple[tuple[Any, Kind], ...] = (
    (me.EmbeddedDocumentField, "object"),
    (me.MapField, "map"),
    (me.ListField, "list"),
    ((me.PointField, me.GeoPointField), "point"),
    ((me.DictField, me.LineStringField, me.PolygonField), "json"),
    (me.BooleanField, "bool"),
    (me.DateTimeField, "time"),
    (me.DateField, "date"),
    (me.IntField, "int"),
    (me.LongField, "int"),
    (me.FloatField, "float"),
    ((me.ReferenceField, me.LazyReferenceField), "reference"),
    (me.BinaryField, "long"),
)
"""Classes of fields with their kinds, the first that fits; what is none of them is text."""
SHORT_TEXT = 200
"""Most characters of a text that gets one line."""


def input_kind(field: Field) -> Kind:
    """Return the kind of the input of a field."""
    declared = field.declared
    if field.is_list or field.is_map:
        return "list" if field.is_list else "map"
    if isinstance(declared, me.EnumField) or declared.choices:
        return "choice"
    # A date is a time to MongoEngine.
    if isinstance(declared, me.DateField):
        return "date"
    if is_text(declared):
        return "text"
    found = next((kind for classes, kind in INPUT_KINDS if isinstance(declared, classes)), None)
    return found or text_kind(field)


def text_kind(field: Field) -> Kind:
    """Return whether a text has one line or several; a text without a limit may have several."""
    if type(field.declared) is not me.StringField:
        return "text"
    most = field.declared.max_length
    return "text" if field.is_id or (most is not None and most <= SHORT_TEXT) or field.declared.regex else "long"


def choices(field: Field) -> list[Any]:
    """Return in JSON form what a field lets choose."""
    return choices_of(of_value(field, "create"))
