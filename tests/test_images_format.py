"""How image files are built: the measure of an image, and the file without what says where and by whom it was taken."""

import io
import random
import struct
import zlib

import pi_heif
import pytest
from PIL import Image, ImageCms

from service.files import images_format, images_heif
from service.files.blobs import BytesGone
from service.files.images_parts import BLOCK, Extract, SharedBytes
from tests.images import (
    ACROSS,
    BLUE,
    DOWN,
    HEIC,
    HEIC_TURNED,
    SECRETS,
    XMP,
    chunk,
    exif,
    gif_of_frames,
    is_upright,
    opened,
    photo,
    quarters,
    segment,
    written,
)

pytestmark = pytest.mark.once

TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "AVIF": "image/avif", "GIF": "image/gif"}
FRAMES = [quarters(), Image.new("RGB", (ACROSS, DOWN), BLUE)]


def moving(file_format: str) -> bytes:
    more = {} if file_format == "GIF" else {"exif": exif()}
    return written(FRAMES[0], file_format, save_all=True, append_images=FRAMES[1:], duration=100, loop=0, **more)


def text_in(png: bytes) -> bytes:
    return (
        png[:33]
        + chunk(b"tEXt", b"Comment\0<script>")
        + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
        + png[33:]
    )


MADE = {
    "JPEG": ("image/jpeg", photo("JPEG")),
    "progressive JPEG": ("image/jpeg", written(quarters(), "JPEG", progressive=True, exif=exif(), quality=95)),
    "JPEG with IPTC": ("image/jpeg", photo("JPEG")[:2] + segment(0xED, b"Photoshop 3.0\x008BIM") + photo("JPEG")[2:]),
    "JPEG with a film": ("image/jpeg", photo("JPEG") + b"\0\0\0\x18ftypmp42 GPS <script>"),
    "PNG": ("image/png", text_in(photo("PNG"))),
    "PNG and more": ("image/png", text_in(photo("PNG")) + b"<script>"),
    "WebP": ("image/webp", photo("WEBP")),
    "WebP and more": ("image/webp", photo("WEBP") + b"<script>"),
    "AVIF": ("image/avif", photo("AVIF")),
    "AVIF and more": ("image/avif", photo("AVIF") + b"\0\0\0\x15uuid <script> GPS"),
    "HEIC": ("image/heic", HEIC),
    "HEIC with a film": ("image/heic", HEIC + b"\0\0\0\x18mpvdftypmp42 GPS <sc"),
    "GIF": ("image/gif", written(quarters(), "GIF", comment=b"<script>alert(1)</script>")),
    "moving GIF": ("image/gif", moving("GIF")),
    "moving WebP": ("image/webp", moving("WEBP")),
    "moving PNG": ("image/png", moving("PNG")),
}


def shared(media_type: str, data: bytes) -> bytes:
    found = images_format.shared_form(media_type, lambda first, stop: data[first:stop], len(data))
    assert found is not None
    return whole(found)


def whole(found: SharedBytes, step: int = BLOCK) -> bytes:
    data = b""
    while piece := found.read(len(data), min(found.size, len(data) + step)):
        data += piece
    assert len(data) == found.size
    return data


def measured(media_type: str, data: bytes) -> tuple[int, int] | None:
    return images_format.measure_of(media_type, lambda first, stop: data[first:stop], len(data))


# The measure


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_measure_is_that_of_the_upright_image(file_format: str, orientation: int) -> None:
    assert measured(TYPES[file_format], photo(file_format, orientation)) == (ACROSS, DOWN)


@pytest.mark.parametrize("name", MADE)
def test_each_format_tells_its_measure(name: str) -> None:
    assert measured(*MADE[name]) == (ACROSS, DOWN)


def test_more_ways_to_write_a_measure_are_read() -> None:
    assert measured("image/heic", HEIC_TURNED) == (DOWN, ACROSS)
    assert measured("image/webp", written(quarters(), "WEBP", lossless=True)) == (ACROSS, DOWN)
    assert measured("image/webp", written(quarters(), "WEBP")) == (ACROSS, DOWN)
    assert measured("image/gif", gif_of_frames(3)) == (1, 1)
    assert measured("image/jpeg", photo("JPEG").replace(b"\xff\xdb", b"\xff\xff\xff\xdb", 1)) == (ACROSS, DOWN)


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        ("image/svg+xml", b"<svg width='9' height='9'/>"),
        ("text/plain", photo("JPEG")),
        ("image/jpeg", photo("PNG")),
        ("image/png", b""),
        ("image/gif", b"GIF89a\0\0\0\0\0\0\0"),
        ("image/webp", b"RIFF\4\0\0\0WEBP"),
        ("image/heic", HEIC[:100]),
        ("image/jpeg", b"\xff\xd8\xff\xd9"),
    ],
)
def test_what_does_not_tell_has_no_measure(media_type: str, data: bytes) -> None:
    assert measured(media_type, data) is None


def test_bytes_that_go_meanwhile_have_no_measure() -> None:
    def gone(first: int, stop: int) -> bytes:
        raise BytesGone("blob")

    assert images_format.measure_of("image/jpeg", gone, 100) is None


def test_the_measure_is_found_in_the_head_of_a_large_file() -> None:
    read = []
    data = photo("JPEG")

    def of(first: int, stop: int) -> bytes:
        read.append(stop - first)
        return (data + bytes(stop - len(data)))[first:stop]

    assert images_format.measure_of("image/jpeg", of, 5 * 2**30) == (ACROSS, DOWN)
    assert sum(read) <= 2 * BLOCK


# What others get


@pytest.mark.parametrize("name", MADE)
def test_others_get_the_same_pixels_and_nothing_that_a_camera_wrote(name: str) -> None:
    media_type, data = MADE[name]
    given = shared(media_type, data)
    assert name == "moving GIF" or [secret for secret in SECRETS if secret in data]
    assert not [secret for secret in SECRETS if secret in given and secret != b"Exif"]
    if media_type != "image/heic":
        assert opened(given).tobytes() == opened(data).tobytes()
        assert not any(opened(given).info.get(name, b"").strip(b"\0") for name in ("xmp", "comment"))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_others_see_it_upright(file_format: str, orientation: int) -> None:
    given = shared(TYPES[file_format], photo(file_format, orientation))
    found = opened(given).getexif()
    assert dict(found) in ({}, {0x0112: orientation})
    assert found.get(0x0112, 1) == orientation
    assert not found.get_ifd(0x8825)
    assert measured(TYPES[file_format], given) == (ACROSS, DOWN)


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_what_moves_does_so_still(file_format: str) -> None:
    given, before = opened(shared(TYPES[file_format], moving(file_format))), opened(moving(file_format))
    assert given.n_frames == before.n_frames == 2  # type: ignore[attr-defined]
    given.seek(1)
    before.seek(1)
    assert given.tobytes() == before.tobytes()


def test_heic_keeps_its_pixels() -> None:
    given, before = (pi_heif.open_heif(io.BytesIO(data)) for data in (shared("image/heic", HEIC), HEIC))
    assert bytes(given.data) == bytes(before.data)
    assert is_upright(given.to_pillow(), far=60)


@pytest.mark.parametrize("media_type", ["image/png", "image/jpeg", "image/webp"])
def test_colours_stay(media_type: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    file_format = media_type.removeprefix("image/").upper()
    given = opened(shared(media_type, written(quarters(), file_format, icc_profile=profile, exif=exif())))
    assert given.info["icc_profile"] == profile


def test_a_thumbnail_in_a_jpeg_is_not_shared() -> None:
    head = b"\xff\xd8" + segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\1\1abc") + segment(0xE0, b"JFXX\0\x13abc")
    given = shared("image/jpeg", head + photo("JPEG")[20:])
    assert b"abc" not in given
    assert b"JFXX" not in given
    assert opened(given).tobytes() == opened(photo("JPEG")).tobytes()


@pytest.mark.parametrize("step", [1, 7, 100, BLOCK])
def test_others_read_it_in_any_ranges(step: int) -> None:
    media_type, data = MADE["JPEG"]
    found = images_format.shared_form(media_type, lambda first, stop: data[first:stop], len(data))
    assert found is not None
    assert whole(found, step) == shared(media_type, data)
    assert found.read(found.size, found.size + 9) == b""
    assert found.read(5, 5) == b""


def test_zeros_are_not_made_before_they_are_read() -> None:
    found = SharedBytes(lambda first, stop: b"", [Extract(2**40)])
    assert found.read(2**39, 2**40) == bytes(BLOCK)


# What is built to do harm


@pytest.mark.parametrize("name", MADE)
def test_one_that_breaks_off_is_not_shared(name: str) -> None:
    media_type, data = MADE[name]
    if name.endswith(("more", "film")):
        data = data[: len(data) // 3]
    for stop in range(0, len(data) - 1, 7):
        cut = data[:stop]
        found = images_format.shared_form(media_type, lambda first, end, cut=cut: cut[first:end], stop)  # type: ignore[misc]
        if found is not None:
            assert not [secret for secret in SECRETS if secret in whole(found) and secret != b"Exif"]


@pytest.mark.parametrize("name", MADE)
def test_no_byte_makes_more_than_a_broken_file(name: str) -> None:
    media_type, data = MADE[name]
    chance = random.Random(name)
    for _ in range(300):
        wrong = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            wrong[chance.randrange(min(len(wrong), 700))] = chance.randrange(256)
        read = bytes(wrong)
        images_format.measure_of(media_type, lambda first, stop, read=read: read[first:stop], len(read))  # type: ignore[misc]
        found = images_format.shared_form(media_type, lambda first, stop, read=read: read[first:stop], len(read))  # type: ignore[misc]
        if found is not None:
            whole(found)


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        ("image/jpeg", photo("JPEG")[:-2] + b"\xff\xe1"),
        ("image/png", photo("PNG")[:33] + chunk(b"eXIf", b"MM")[:9]),
        ("image/gif", b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + b"<script>"),
        ("image/heic", HEIC + b"\0\0\0\x08moov"),
        ("image/heic", HEIC[:28] + b"\0\0\0\x08junk" + HEIC[:20]),
        ("image/svg+xml", b"<svg/>"),
    ],
)
def test_what_nobody_can_tell_about_is_not_shared(media_type: str, data: bytes) -> None:
    assert images_format.shared_form(media_type, lambda first, stop: data[first:stop], len(data)) is None


def test_a_file_of_too_many_parts_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_format, "MOST_FILE_PARTS", 100)
    data = photo("JPEG")[:2] + segment(0xFE, b"") * 100 + photo("JPEG")[2:]
    assert images_format.shared_form("image/jpeg", lambda first, stop: data[first:stop], len(data)) is None


def test_a_heic_of_too_many_pieces_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    many = HEIC + b"\0\0\0\x08free" * 200
    assert images_format.shared_form("image/heic", lambda first, stop: many[first:stop], len(many)) is None
    monkeypatch.setattr(images_heif, "MOST_EXTENTS", 1)
    assert images_format.shared_form("image/heic", lambda first, stop: HEIC[first:stop], len(HEIC)) is None


def test_a_place_of_exif_that_is_also_said_to_be_a_picture_is_hidden() -> None:
    place = HEIC.index(b"Exif\0\0", HEIC.index(b"mdat"))
    at = HEIC.index(b"iloc") + 12
    # The first item, which is the picture, is said to be where the EXIF is.
    extent = HEIC.index(struct.pack(">I", HEIC.index(b"mdat") + 4), at)
    data = HEIC[:extent] + struct.pack(">I", place) + HEIC[extent + 4 :]
    assert not [secret for secret in SECRETS if secret in shared("image/heic", data) and secret != b"Exif"]


def test_the_exif_of_others_is_right_by_its_sum() -> None:
    given = shared("image/png", photo("PNG", 6))
    place = given.index(b"eXIf")
    length = int.from_bytes(given[place - 4 : place])
    assert zlib.crc32(given[place : place + 4 + length]) == int.from_bytes(
        given[place + 4 + length : place + 8 + length]
    )
