"""Files: what people have uploaded; the bytes of each are beside it."""

from mongoengine import IntField, LongField, StringField

from service.documents.record import Record


class File(Record):
    """Bytes with a name. Whoever has uploaded them owns it; all but its name and who may see it follows from them."""

    name = StringField(required=True, min_length=1, max_length=255, collation="en", help_text="such as photo.jpg")
    media_type = StringField(
        required=True,
        read_only=True,
        help_text="found out from the content, whatever its client said of it",
    )
    size = LongField(required=True, read_only=True, min_value=0, help_text="bytes")
    sha256 = StringField(required=True, read_only=True, help_text="hash of the content in hexadecimal digits")
    width = IntField(read_only=True, min_value=1, help_text="pixels of an image, as it is shown; null of all else")
    height = IntField(read_only=True, min_value=1, help_text="likewise")

    # Under which id its bytes are (`service/documents/blob.py`).
    blob = StringField(hidden=True)

    meta = {
        "collection": "files",
        "example": {"name": "photo.jpg"},
        "sorts": [
            *("updated_at", "-updated_at", "created_at", "-created_at", "name", "-name", "size", "-size"),
        ],
        "filters": [
            *("id", "owner", "created_at", "updated_at", "revision"),
            *("name", "media_type", "size", "sha256", "width", "height"),
        ],
    }
