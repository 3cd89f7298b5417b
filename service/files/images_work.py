"""What is done to an image, in a process that may do nothing else: read, shrink, turn upright, write without metadata.

It stands on Pillow and pi-heif, and runs only where `images_program` has set limits: what it reads is foreign.
"""

import io
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

import pi_heif
from PIL import AvifImagePlugin, Image, ImageCms

from service.files.images_tasks import Task

READ = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "HEIF")
"""Formats that are read, as Pillow calls them: all others, SVG and PostScript among them, are no images here."""
WRITTEN = {"image/webp": "WEBP", "image/jpeg": "JPEG", "image/png": "PNG"}
WRITES = {
    "WEBP": {"quality": 80, "method": 2},
    "JPEG": {"quality": 82, "progressive": True, "optimize": True},
    "PNG": {"compress_level": 6},
}
"""How each format is written: for WebP, method 4 takes half as long again and saves a few hundredths."""
ORIENTATION = 0x0112
"""The tag of EXIF that says how an image is turned."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = frozenset({5, 6, 7, 8})
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
FINER = 2
"""How many times larger than wanted an image is decoded, where its format can be decoded smaller: JPEG."""


class NotRendered(Exception):
    """An image is not rendered; the message is for who has asked."""


class Crop(NamedTuple):
    """The part of an image that is shown, as left, top, right and bottom, and its size when it is done."""

    part: tuple[float, float, float, float]
    width: int
    height: int


def load_decoders() -> None:
    """Load what decodes, once, before processes are forked that do it."""
    # A thread would be one more thing that needs a limit, and each reserves memory of its own.
    pi_heif.options.DECODE_THREADS = 1
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    pi_heif.register_heif_opener()
    # The limit is ours, told by a sentence; Pillow's would be one of its own.
    Image.MAX_IMAGE_PIXELS = None
    Image.init()


def render(source: BinaryIO, task: Task) -> bytes:
    """Return the smaller image of a task. Raises `NotRendered`, and whatever decoders raise of a broken one."""
    with Image.open(source, formats=READ) as image:
        refuse_large(image, task)
        turn = orientation(image)
        width, height = (task.height, task.width) if turn in SIDEWAYS else (task.width, task.height)
        hint = cut(image.size, width, height, task.cover)
        image.draft(image.mode, decoded_size(image.size, hint))
        shown = shrink(image, cut(image.size, width, height, task.cover))
    shown = in_srgb(shown)
    if turn in TURNS:
        shown = shown.transpose(TURNS[turn])
    return written(shown, WRITTEN[task.media_type])


def refuse_large(image: Image.Image, task: Task) -> None:
    """Raise `NotRendered` for an image of more pixels than are decoded, before any of them is."""
    width, height = image.size
    if width * height > task.pixels:
        raise NotRendered(f"the image has {width} x {height} pixels; at most {task.pixels} are decoded")


def orientation(image: Image.Image) -> int:
    """Return how an image is turned, by its EXIF or XMP: 1 is upright."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow raises whatever a wrong byte leads to; browsers show such an image as it lies, too
        return 1
    return found if isinstance(found, int) else 1


def cut(size: tuple[int, int], width: int, height: int, cover: bool) -> Crop:
    """Return which part of an image of a `size` is shown in a box, and how large. Nothing is ever enlarged."""
    across, down = size
    if not cover:
        scale = min(1, width / across, height / down)
        return Crop((0, 0, across, down), max(1, round(across * scale)), max(1, round(down * scale)))
    kept_across, kept_down = min(across, down * width / height), min(down, across * height / width)
    left, top = (across - kept_across) / 2, (down - kept_down) / 2
    smaller = min(1, width / kept_across)
    part = (left, top, left + kept_across, top + kept_down)
    return Crop(part, max(1, round(kept_across * smaller)), max(1, round(kept_down * smaller)))


def decoded_size(size: tuple[int, int], hint: Crop) -> tuple[int, int]:
    """Return the least size in which an image is decoded, that its cut is still made of more than it needs."""
    left, top, right, bottom = hint.part
    scale = min(1, FINER * max(hint.width / (right - left), hint.height / (bottom - top)))
    return (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))


def shrink(image: Image.Image, shown: Crop) -> Image.Image:
    """Return the part that is shown, in its size. Colours of a palette are looked up first: they have a mean."""
    plain = STRAIGHT.get(image.mode, straight)(image)
    size = (shown.width, shown.height)
    smaller = plain.resize(size, Image.Resampling.LANCZOS, box=shown.part, reducing_gap=3.0)
    smaller.info = {"icc_profile": image.info.get("icc_profile")}
    return smaller


def straight(image: Image.Image) -> Image.Image:
    """Return an image in a mode that can be shrunk: colours as they are, those of a palette looked up."""
    if image.mode in {"L", "RGB", "RGBA", "LA", "CMYK"} and "transparency" not in image.info:
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def eight_bits(image: Image.Image) -> Image.Image:
    """Return an image of 16 bits of grey with 8."""
    return image.convert("I").point(lambda level: level / 256).convert("L")


STRAIGHT: dict[str, Callable[[Image.Image], Image.Image]] = dict.fromkeys(("I", "I;16", "I;16B", "I;16L"), eight_bits)


def in_srgb(image: Image.Image) -> Image.Image:
    """Return an image in the colours that every screen knows. A profile that is broken or does not fit is left out."""
    mode = "RGBA" if image.mode in {"RGBA", "LA"} else "RGB"
    profile = image.info.get("icc_profile")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            based = image.convert("RGBA") if image.mode == "LA" else image
            return ImageCms.profileToProfile(based, source, SRGB, outputMode=mode) or based
        except (ImageCms.PyCMSError, OSError, ValueError):
            return image.convert(mode)
    return image.convert(mode)


def written(image: Image.Image, file_format: str) -> bytes:
    """Return the bytes of an image in a format: nothing but its pixels, those that show through on white for JPEG."""
    image.info = {}
    if file_format == "JPEG" and image.mode == "RGBA":
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        image = white
    output = io.BytesIO()
    image.save(output, file_format, **WRITES[file_format])
    return output.getvalue()
