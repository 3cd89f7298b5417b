"""Smaller images: what is made of each format, and what of those that are made to do harm."""

import io
import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image

from service.files import images_work
from service.files.images_tasks import Task
from service.files.images_work import NotRendered
from tests.images import (
    ACROSS,
    BLUE,
    DOWN,
    GREEN,
    HEIC,
    HEIC_TURNED,
    RED,
    SECRETS,
    chunk,
    corners,
    display_p3,
    gif_of_frames,
    is_upright,
    opened,
    photo,
    png_of_zeros,
    quarters,
    segment,
    written,
)

pytestmark = pytest.mark.once

PIXELS = 100_000_000
WEBP, JPEG, PNG = "image/webp", "image/jpeg", "image/png"
MADE = {
    "JPEG": lambda: photo("JPEG"),
    "PNG": lambda: photo("PNG"),
    "WebP": lambda: photo("WEBP"),
    "GIF": lambda: written(quarters(), "GIF", comment=b"<script>alert(1)</script>"),
    "AVIF": lambda: photo("AVIF"),
    "HEIC": lambda: HEIC,
    "progressive JPEG": lambda: written(quarters(), "JPEG", progressive=True, quality=95),
    "CMYK": lambda: written(quarters().convert("CMYK"), "JPEG", quality=95),
    "palette": lambda: written(quarters().quantize(4), "PNG"),
    "lossless WebP": lambda: written(quarters(), "WEBP", lossless=True),
}


@pytest.fixture(scope="module", autouse=True)
def prepared() -> None:
    images_work.load_decoders()


def render(data: bytes, width: int = 32, height: int = 32, cover: bool = False, media_type: str = WEBP) -> bytes:
    return images_work.render(io.BytesIO(data), Task(width, height, cover, media_type, PIXELS))


# Each format


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("media_type", [WEBP, JPEG, PNG])
def test_each_format_becomes_a_smaller_image_of_its_colours(name: str, media_type: str) -> None:
    made = render(MADE[name](), media_type=media_type)
    shown = opened(made)
    assert (shown.size, Image.MIME[shown.format or ""]) == ((32, 24), media_type)
    assert is_upright(shown)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_upright(file_format: str, orientation: int) -> None:
    shown = opened(render(photo(file_format, orientation)))
    assert shown.size == (32, 24)
    assert is_upright(shown, far=40)


def test_the_turn_of_heic_is_made_once() -> None:
    shown = opened(render(HEIC_TURNED))
    assert shown.size == (24, 32)
    assert corners(shown)[1][0] > 200 > 60 > corners(shown)[1][2]


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("media_type", [WEBP, JPEG, PNG])
def test_nothing_that_a_camera_wrote_is_in_it(name: str, media_type: str) -> None:
    made = render(MADE[name](), media_type=media_type)
    assert not [secret for secret in SECRETS if secret in made]
    assert not {"exif", "xmp", "comment", "icc_profile"} & set(opened(made).info)
    assert not opened(made).getexif()


def test_no_text_of_a_png_is_in_it() -> None:
    text = chunk(b"tEXt", b"Comment\0<script>alert(1)</script>")
    whole = photo("PNG")
    for media_type in (WEBP, JPEG, PNG):
        made = render(whole[:33] + text + whole[33:], media_type=media_type)
        assert not [secret for secret in SECRETS if secret in made]


# Size


@pytest.mark.parametrize(
    ("size", "box", "cover", "made"),
    [
        ((400, 300), (200, 200), True, (200, 200)),
        ((300, 400), (200, 100), True, (200, 100)),
        ((400, 300), (160, 160), False, (160, 120)),
        ((300, 400), (160, 160), False, (120, 160)),
        ((100, 50), (1600, 1600), False, (100, 50)),
        ((100, 400), (200, 200), True, (100, 100)),
        ((100, 400), (200, 100), True, (100, 50)),
        ((3000, 1), (200, 200), False, (200, 1)),
        ((1, 3000), (200, 200), True, (1, 1)),
    ],
)
def test_it_has_the_size_that_is_asked_for_and_is_never_enlarged(
    size: tuple[int, int], box: tuple[int, int], cover: bool, made: tuple[int, int]
) -> None:
    assert opened(render(written(quarters(*size), "PNG"), *box, cover)).size == made
    assert opened(render(written(quarters(*size), "JPEG"), *box, cover)).size == made


def test_what_is_cut_off_is_the_same_on_both_sides() -> None:
    wide = Image.new("RGB", (300, 100), RED)
    wide.paste(GREEN, (100, 0, 200, 100))
    assert set(corners(opened(render(written(wide, "PNG"), 50, 50, True, PNG)))) == {GREEN}


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_a_box_lies_as_the_image_is_seen(file_format: str) -> None:
    assert opened(render(photo(file_format, 6), 40, 20, True)).size == (40, 20)


# Colours


def test_the_colours_of_a_profile_become_those_of_srgb() -> None:
    exchanged = written(Image.new("RGB", (40, 40), RED), "PNG", icc_profile=display_p3())
    red, green, _ = corners(opened(render(exchanged, media_type=PNG)))[0]
    assert green > 200 > 60 > red


@pytest.mark.parametrize("profile", [b"nonsense", b"", display_p3()[:200]])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_profile_that_is_broken_or_of_other_colours_is_left_out(profile: bytes, mode: str) -> None:
    made = render(written(quarters().convert(mode), "JPEG", quality=95, icc_profile=profile))
    assert opened(made).size == (32, 24)


def test_sixteen_bits_of_grey_are_as_light_in_eight() -> None:
    grey = Image.frombytes("I;16", (2, 2), struct.pack("<4H", *[0x8000] * 4))
    found = corners(opened(render(written(grey, "PNG"), media_type=PNG)))
    assert all(126 <= level <= 130 for level in found[0])


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "GIF", "AVIF"])
@pytest.mark.parametrize("media_type", [WEBP, PNG])
def test_what_shows_through_does_so_still(file_format: str, media_type: str) -> None:
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 255))
    clear.paste((0, 0, 0, 0), (0, 0, 32, 64))
    shown = opened(render(written(clear, file_format), media_type=media_type)).convert("RGBA")
    assert [shown.getpixel((x, 16))[3] for x in (4, 28)] == [0, 255]  # type: ignore[index]
    assert shown.getpixel((28, 16))[0] > 240  # type: ignore[index]


def test_what_shows_through_is_white_in_a_jpeg() -> None:
    clear = written(Image.new("RGBA", (64, 64), (0, 0, 0, 0)), "PNG")
    assert min(corners(opened(render(clear, media_type=JPEG)))[0]) > 250


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA"])
def test_every_kind_of_pixels_is_read(mode: str) -> None:
    if mode == "PA":
        image = quarters().quantize(4).convert("PA")
        data = written(image.convert("RGBA").quantize(8), "PNG")
    else:
        data = written(quarters().convert(mode), "PNG")
    assert opened(render(data)).size == (32, 24)


# Moving ones


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_of_a_moving_image_the_first_frame_is_shown(file_format: str) -> None:
    others = [Image.new("RGB", (ACROSS, DOWN), BLUE)] * 3
    data = written(quarters(), file_format, save_all=True, append_images=others, duration=100)
    made = opened(render(data))
    assert getattr(made, "n_frames", 1) == 1
    assert is_upright(made, far=60)


def test_many_frames_take_no_longer_than_one() -> None:
    assert corners(opened(render(gif_of_frames(100_000), media_type=PNG)))[0] == RED


# What is made to do harm


@pytest.mark.parametrize(
    "data",
    [
        lambda: png_of_zeros(30_000, 30_000),
        lambda: b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0x80, 0, 0) + gif_of_frames(1)[13:],
    ],
    ids=["PNG", "GIF"],
)
def test_more_pixels_than_are_decoded_are_refused_before_they_are(data: Callable[[], bytes]) -> None:
    with pytest.raises(NotRendered, match="pixels; at most 100000000 are decoded"):
        render(data())


@pytest.mark.parametrize("name", [name for name in MADE if name != "palette"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_one_that_breaks_off_is_broken(name: str, share: float) -> None:
    whole = MADE[name]()
    with pytest.raises((OSError, SyntaxError, ValueError, EOFError, IndexError)):
        render(whole[: int(len(whole) * share)])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><rect width='9' height='9'/></svg>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        b"GIF89a<script>alert(1)</script>",
    ],
)
def test_what_is_no_image_that_is_read_is_refused(data: bytes) -> None:
    with pytest.raises((OSError, SyntaxError, ValueError, EOFError, IndexError)):
        render(data)


@pytest.mark.parametrize("file_format", ["TIFF", "BMP", "ICO", "PPM", "PDF"])
def test_other_formats_are_not_read(file_format: str) -> None:
    with pytest.raises(OSError, match="cannot identify"):
        render(written(quarters(), file_format))


@pytest.mark.parametrize(
    "hidden",
    [
        lambda: photo("JPEG") + b"<script>alert(1)</script>",
        lambda: photo("JPEG")[:2] + segment(0xFE, b"*/<html><script>alert(1)</script>") + photo("JPEG")[2:],
        lambda: photo("JPEG")[:2] + segment(0xED, b"Photoshop 3.0\x008BIM<script>") + photo("JPEG")[2:],
        lambda: photo("PNG") + b"<script>alert(1)</script>",
        lambda: gif_of_frames(1)[:-1] + b"\x21\xfe\x19<script>alert(1)</script>\x00\x3b",
    ],
    ids=["behind JPEG", "comment of JPEG", "IPTC", "behind PNG", "comment of GIF"],
)
def test_what_is_hidden_in_an_image_is_not_in_the_smaller_one(hidden: Callable[[], bytes]) -> None:
    made = render(hidden())
    assert b"<script>" not in made
    assert b"8BIM" not in made


def test_a_profile_that_unpacks_to_much_is_refused() -> None:
    bomb = chunk(b"iCCP", b"bomb\0\0" + zlib.compress(bytes(20_000_000), 9))
    whole = photo("PNG")
    with pytest.raises((OSError, SyntaxError, ValueError)):
        render(whole[:33] + bomb + whole[33:])


def test_texts_that_unpack_to_much_are_refused() -> None:
    bomb = chunk(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(20_000_000), 9)) * 80
    whole = photo("PNG")
    with pytest.raises((OSError, SyntaxError, ValueError)):
        render(whole[:33] + bomb + whole[33:])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")
def test_exif_that_is_broken_turns_nothing() -> None:
    broken = segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff")
    plain = written(quarters(), "JPEG", quality=95)
    assert is_upright(opened(render(plain[:2] + broken + plain[2:])))
