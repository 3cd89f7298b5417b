"""What a file is, found out from its first bytes: nobody believes what a client says of it."""

import codecs
import re

import filetype

HEAD_BYTES = 8192
"""Of how many bytes one can tell."""
BINARY, TEXT = "application/octet-stream", "text/plain"
CONTROLS = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")
"""What no text has."""
MARKUP = (
    ("image/svg+xml", re.compile(r"<svg[\s>]", re.IGNORECASE)),
    ("text/html", re.compile(r"<(!doctype\s+html|html|head|body|script|iframe)[\s>]", re.IGNORECASE)),
)
"""How text shows that a browser may run it."""
BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "image/heic"),
    **dict.fromkeys((b"avif", b"avis"), "image/avif"),
    b"crx ": "image/x-canon-cr3",
}
"""What an image in boxes is by its brand (ISO/IEC 23008-12, AVIF, and what Canon's cameras write)."""
ANY_IMAGE = frozenset(
    b"mif1 msf1 mif2 miaf MiPr MiHB MiHA MiHE MA1B MA1A avci avcs vvic vvis evbi evbs j2ki j2is jpeg jpgs".split()
)
"""Brands of images in boxes whose other brands may say how they are encoded."""
OTHER_IMAGES = (
    (b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
    (b"\xff\x0a", "image/jxl"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
    (b"\xff\x4f\xff\x51", "image/j2c"),
    (b"FUJIFILMCCD-RAW ", "image/x-fuji-raf"),
    (b"IIRO", "image/x-olympus-orf"),
    (b"IIRS", "image/x-olympus-orf"),
    (b"MMOR", "image/x-olympus-orf"),
    (b"IIU\0", "image/x-panasonic-rw2"),
    (b"MM\0+", "image/tiff"),
    (b"II+\0", "image/tiff"),
)
"""How images begin that `filetype` does not know, and in which a camera writes: they are their owner's alone."""
SAME_AS = {"image/apng": "image/png"}
"""What `filetype` tells apart, and is read alike."""
SHOWN = re.compile(
    r"(image/(jpeg|png|gif|webp|avif|heic|heif|bmp|x-icon))|audio/[\w.+-]+|video/[\w.+-]+|application/pdf"
)
"""The media types that a browser may show in place: none of these has a script that it would run."""


def media_type_of(head: bytes) -> str:
    """Return the media type of what begins with these bytes, `HEAD_BYTES` of them where there are so many."""
    if (image := boxed_image(head)) is not None:
        return image
    found = filetype.guess(head) if head else None
    if found is not None:
        return SAME_AS.get(found.mime, str(found.mime))
    if (image := next((media_type for begin, media_type in OTHER_IMAGES if head.startswith(begin)), None)) is not None:
        return image
    try:
        # A character may be cut at the end.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        return BINARY
    if CONTROLS.search(text):
        return BINARY
    return next((media_type for media_type, pattern in MARKUP if pattern.search(text)), TEXT)


def boxed_image(head: bytes) -> str | None:
    """Return the media type of an image in boxes, by the brands in its first one; None for all else.

    It is asked first: the length of that box may look like the beginning of another format.
    """
    if head[4:8] != b"ftyp":
        return None
    major, last = head[8:12], min(int.from_bytes(head[:4]), len(head))
    if major not in ANY_IMAGE:
        return BRANDS.get(major)
    others = {head[place : place + 4] for place in range(16, last, 4)}
    return next((media_type for brand, media_type in BRANDS.items() if brand in others), "image/heif")


def is_shown(media_type: str) -> bool:
    """Tell whether a browser may show such a file in place."""
    return SHOWN.fullmatch(media_type) is not None
