"""What the server finds out of a file by its bytes: nobody believes what a client says of them."""

from service.files.images_format import measure_of
from service.files.media_types import HEAD_BYTES, media_type_of
from service.files.reading import Read, pieces
from service.mongo.raw import Raw


def found_out(read: Read, size: int) -> Raw:
    """Return the media type of a file of so many bytes, and the width and height of an image, in BSON form."""
    media_type = media_type_of(b"".join(pieces(read, 0, min(size, HEAD_BYTES))))
    measure = measure_of(media_type, read, size)
    upright = {} if measure is None else {"width": measure.width, "height": measure.height}
    return {"media_type": media_type, **upright}
