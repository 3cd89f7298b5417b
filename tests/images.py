"""Images that tests make: quarters of plain colours, that show how they lie, with all that a camera writes into it."""

import base64
import io
import struct
import zlib
from typing import Any

from PIL import Image, ImageCms

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
ACROSS, DOWN = 64, 48
MAKER, MODEL, DATE = "Telefonfabrik", "T-1000", "2026:11:27 10:00:00"
SECRETS = (MAKER.encode(), MODEL.encode(), DATE.encode(), b"GPS", b"Exif", b"<script>", b"xpacket", b"8BIM")
"""What must be in nothing that others get."""
TURNED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How an upright image lies in a file whose EXIF has this orientation (EXIF 2.32, 4.6.4): the way back."""


def quarters(across: int = ACROSS, down: int = DOWN) -> Image.Image:
    """Red and green above, blue and white below."""
    image = Image.new("RGB", (across, down), RED)
    image.paste(GREEN, (across // 2, 0, across, down // 2))
    image.paste(BLUE, (0, down // 2, across // 2, down))
    image.paste(WHITE, (across // 2, down // 2, across, down))
    return image


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """The colours of the quarters, in the order of `quarters`."""
    across, down = image.size
    shown = image.convert("RGB")
    return [shown.getpixel((across * x // 8, down * y // 8)) for y in (2, 6) for x in (2, 6)]  # type: ignore[misc]


def is_upright(image: Image.Image, far: int = 24) -> bool:
    """Whether the quarters are where they belong, their colours not further off than `far` of 255."""
    pairs = zip(corners(image), (RED, GREEN, BLUE, WHITE), strict=True)
    return all(abs(one - other) <= far for found, right in pairs for one, other in zip(found, right, strict=True))


def exif(orientation: int = 1) -> bytes:
    """What a phone writes: maker, model, time and place."""
    found = Image.Exif()
    found[0x0112], found[0x010F], found[0x0110], found[0x0132] = orientation, MAKER, MODEL, DATE
    place = found.get_ifd(0x8825)
    place[1], place[2], place[3], place[4] = "N", (37.0, 33.0, 59.0), "E", (126.0, 58.0, 41.0)
    return found.tobytes()


XMP = (
    b'<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description exif:GPSLatitude="37,33N"/>'
    b"</rdf:RDF></x:xmpmeta><?xpacket end='w'?>"
)


def written(image: Image.Image, file_format: str, **more: Any) -> bytes:
    """The image as a file."""
    output = io.BytesIO()
    image.save(output, file_format, **more)
    return output.getvalue()


def opened(data: bytes) -> Image.Image:
    """The image of a file, decoded."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def photo(file_format: str, orientation: int = 1) -> bytes:
    """A file of a format with all that a phone writes into it."""
    turn = TURNED[orientation]
    image = quarters() if turn is None else quarters().transpose(turn)
    return written(image, file_format, exif=exif(orientation), **WITH[file_format])


WITH: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "xmp": XMP, "comment": b"<script>alert(1)</script>"},
    "PNG": {},
    "WEBP": {"xmp": XMP, "quality": 95},
    "AVIF": {"xmp": XMP, "quality": 90},
}


def segment(marker: int, payload: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(payload) + 2) + payload


def chunk(kind: bytes, payload: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png_of_zeros(across: int, down: int) -> bytes:
    """A PNG of so many black pixels: a bit each, and a thousandth of that in the file."""
    row = b"\0" * (1 + (across + 7) // 8)
    squeezer = zlib.compressobj(1)
    data = b"".join([squeezer.compress(row * 1000) for _ in range(down // 1000)] + [squeezer.flush()])
    header = struct.pack(">IIBBBBB", across, down, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def gif_of_frames(count: int) -> bytes:
    """A GIF of so many frames of one pixel, red the first, black the others."""
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\xff\x00\x00\x00\x00\x00"
    frames = [
        b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02" + bits + b"\x00"
        for bits in (b"\x44\x01", b"\x4c\x01")
    ]
    return head + frames[0] + frames[1] * (count - 1) + b"\x3b"


def display_p3() -> bytes:
    """A profile with primaries that are not those of sRGB: red and green of it are changed for each other."""
    return (
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        .tobytes()
        .replace(b"rXYZ", b"????")
        .replace(b"gXYZ", b"rXYZ")
        .replace(b"????", b"gXYZ")
    )


HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAb5tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAADRpbG9jAAAAAE"
    "RAAAIAAQAAAAAB4gABAAAAAAAAAKkAAgAAAAACiwABAAAAAAAAAL4AAAA4aWluZgAAAAAAAgAAABVpbmZlAgAAAAABAABodmMxAAAAABVpbmZlAgAA"
    "AQACAABFeGlmAAAAAA5waXRtAAAAAAABAAAA/WlwcnAAAADdaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAA"
    "ADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgA"
    "AQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBpeGkAAAAAAwgICAAAAB"
    "hpcG1hAAAAAAAAAAEAAQWBAgMFhAAAABppcmVmAAAAAAAAAA5jZHNjAAIAAQABAAABb21kYXQAAAClKAGvE4DlMff/w40/6Z9P9dyZk6gxC/8z4+8O"
    "qv8JcsQbjp4n5SE/320/152IKNCZ5/+bO3dzCOCiT1EFDedL2s+IqfDmwfeT87E2gfd2ehbb3A/8XugAJr4tOzWE4wKUHHOvA4MAKhZNPxADtj6VxL"
    "6NUX4YL9+21hcMoG+GWgAXR/jXlgCcYFA6Nga7T8XGw3FwQHP8y3oa1paRqDkA5b8+VX9UAAAABkV4aWYAAE1NACoAAAAIAAQBDwACAAAACAAAAD4B"
    "EAACAAAABwAAAEYBEgADAAAAAQABAACIJQAEAAAAAQAAAE4AAAAAVGVsZWZvbgBULTEwMDAAAAAEAAEAAgAAAAJOAAAAAAIABQAAAAMAAACEAAMAAg"
    "AAAAJFAAAAAAQABQAAAAMAAACcAAAAAAAAACUAAAABAAAAIQAAAAEAAAA7AAAAAQAAAH4AAAABAAAAOgAAAAEAAAApAAAAAQ=="
)
"""The quarters in HEIC, with the EXIF of a phone, upright."""
HEIC_TURNED = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAchtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAADRpbG9jAAAAAE"
    "RAAAIAAQAAAAAB7AABAAAAAAAAAKkAAgAAAAAClQABAAAAAAAAAL4AAAA4aWluZgAAAAAAAgAAABVpbmZlAgAAAAABAABodmMxAAAAABVpbmZlAgAA"
    "AQACAABFeGlmAAAAAA5waXRtAAAAAAABAAABB2lwcnAAAADmaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAA"
    "ADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgA"
    "AQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBpeGkAAAAAAwgICAAAAA"
    "lpcm90AwAAABlpcG1hAAAAAAAAAAEAAQaBAgMFhIYAAAAaaXJlZgAAAAAAAAAOY2RzYwACAAEAAQAAAW9tZGF0AAAApSgBrxOA5TH3/8ONP+mfT/Xc"
    "mZOoMQv/M+PvDqr/CXLEG46eJ+UhP99tP9ediCjQmef/mzt3cwjgok9RBQ3nS9rPiKnw5sH3k/OxNoH3dnoW29wP/F7oACa+LTs1hOMClBxzrwODAC"
    "oWTT8QA7Y+lcS+jVF+GC/fttYXDKBvhloAF0f415YAnGBQOjYGu0/FxsNxcEBz/Mt6GtaWkag5AOW/PlV/VAAAAAZFeGlmAABNTQAqAAAACAAEAQ8A"
    "AgAAAAgAAAA+ARAAAgAAAAcAAABGARIAAwAAAAEABgAAiCUABAAAAAEAAABOAAAAAFRlbGVmb24AVC0xMDAwAAAABAABAAIAAAACTgAAAAACAAUAAA"
    "ADAAAAhAADAAIAAAACRQAAAAAEAAUAAAADAAAAnAAAAAAAAAAlAAAAAQAAACEAAAABAAAAOwAAAAEAAAB+AAAAAQAAADoAAAABAAAAKQAAAAE="
)
"""The same pixels, to be turned by 90 degrees: the decoder does that by itself."""
