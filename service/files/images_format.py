"""How large an image is, and what others get of its file: read from how it is built, without decoding any of it.

Pure Python that goes from one length to the next: nothing is allocated that a file asks for, and a wrong byte does no
more than make the file a broken one.
"""

from collections.abc import Callable
from typing import NamedTuple

from service.files import images_chunks, images_heif, images_jpeg
from service.files.blobs import BytesGone
from service.files.images_parts import (
    MOST_FILE_PARTS,
    MOST_HEAD_PARTS,
    Broken,
    Extract,
    ImageFile,
    ImageMeasure,
    SharedBytes,
)
from service.files.reading import Read


class Format(NamedTuple):
    """What reads the files of one format."""

    measured: Callable[[ImageFile], ImageMeasure]
    shared: Callable[[ImageFile], list[Extract]]


HEIF = Format(images_heif.heif_measured, images_heif.heif_shared)
FORMATS = {
    "image/jpeg": Format(images_jpeg.jpeg_measured, images_jpeg.jpeg_shared),
    "image/png": Format(images_chunks.png_measured, images_chunks.png_shared),
    "image/gif": Format(images_chunks.gif_measured, images_chunks.gif_shared),
    "image/webp": Format(images_chunks.webp_measured, images_chunks.webp_shared),
    "image/heic": HEIF,
    "image/heif": HEIF,
    "image/avif": HEIF,
}
"""The formats of images that are read, by media type."""


def measure_of(media_type: str, read: Read, size: int) -> ImageMeasure | None:
    """Return how large an image is, as it is seen upright; None where the file of `size` bytes does not tell."""
    try:
        found = FORMATS[media_type].measured(ImageFile(read, size, MOST_HEAD_PARTS)) if media_type in FORMATS else None
    except (Broken, BytesGone):
        # What has gone meanwhile is told by who claims it.
        return None
    return found if found is not None and found.width and found.height else None


def shared_form(media_type: str, read: Read, size: int) -> SharedBytes | None:
    """Return what others than its owner get of an image: all that its pixels need, and how it is turned.

    No EXIF, XMP, IPTC, comment, thumbnail, and nothing behind its end. None where the file of `size` bytes is not built
    as one of its format is, so that nobody can tell what is in it.
    """
    try:
        return (
            SharedBytes(read, FORMATS[media_type].shared(ImageFile(read, size, MOST_FILE_PARTS)))
            if media_type in FORMATS
            else None
        )
    except Broken:
        return None
