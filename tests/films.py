"""A film that tests make: WebM with one whole picture a second, whose shade says which, and cues to seek by."""

import io
import struct

from PIL import Image

ACROSS_OF_FILM, DOWN_OF_FILM = 1200, 900
SHADES = 12
"""How much lighter the upper half is, second by second."""


def vp8(second: int) -> bytes:
    """The picture of a second: noise below, which takes many bytes, and a shade above."""
    image = Image.effect_noise((ACROSS_OF_FILM, DOWN_OF_FILM), 100).convert("RGB")
    image.paste((SHADES * second,) * 3, (0, 0, ACROSS_OF_FILM, DOWN_OF_FILM // 2))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=80, method=0)
    data = file.getvalue()
    # A lossy WebP is a key frame of VP8 behind 12 bytes of RIFF and 8 of its own.
    assert data[12:16] == b"VP8 "
    return data[20 : 20 + int.from_bytes(data[16:20], "little")]


def second_of(image: Image.Image) -> int:
    """The second whose picture this is."""
    shade = image.convert("L").resize((1, 1), box=(0, 0, image.width, image.height // 3)).getpixel((0, 0))
    assert isinstance(shade, int)
    return round(shade / SHADES)


def element(id: str, *parts: bytes) -> bytes:
    """An element of EBML (RFC 8794)."""
    payload = b"".join(parts)
    return bytes.fromhex(id) + (len(payload) | 1 << 56).to_bytes(8) + payload


def number(id: str, value: int) -> bytes:
    return element(id, value.to_bytes(8))


def text(id: str, value: str) -> bytes:
    return element(id, value.encode())


def film(seconds: int) -> bytes:
    """A film of so many seconds, at most 20 (RFC 9559)."""
    versions = (number("4286", 1), number("42F7", 1), number("42F2", 4), number("42F3", 8))
    head = element("1A45DFA3", *versions, text("4282", "webm"), number("4287", 2), number("4285", 2))
    lasting = element("4489", struct.pack(">d", 1000 * seconds))
    about = element("1549A966", number("2AD7B1", 1_000_000), lasting, text("4D80", "tests"), text("5741", "tests"))
    size = element("E0", number("B0", ACROSS_OF_FILM), number("BA", DOWN_OF_FILM))
    track = element("AE", number("D7", 1), number("73C5", 1), number("83", 1), text("86", "V_VP8"), size)
    before = about + element("1654AE6B", track)
    clusters = [
        element("1F43B675", number("E7", 1000 * second), element("A3", b"\x81\0\0\x80" + vp8(second)))
        for second in range(seconds)
    ]
    place = len(before) + len(cues([0] * seconds))
    places = []
    for cluster in clusters:
        places.append(place)
        place += len(cluster)
    return head + element("18538067", before, cues(places), *clusters)


def cues(places: list[int]) -> bytes:
    """Where the picture of each second is."""
    return element(
        "1C53BB6B",
        *(
            element("BB", number("B3", 1000 * second), element("B7", number("F7", 1), number("F1", place)))
            for second, place in enumerate(places)
        ),
    )
