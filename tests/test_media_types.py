"""What a file is, by its first bytes, where that is easily taken for something else."""

from io import BytesIO
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from service.files.media_types import media_type_of
from tests.client import Person
from tests.images import ACROSS, DOWN, HEIC, SECRETS, quarters
from tests.streaming import Served


def boxed(major: bytes, *others: bytes, length: int = 0) -> bytes:
    """The HEIC of a phone, with these brands, in a first box of this length or as long as they need."""
    brands = major + bytes(4) + b"".join(others)
    brands = brands.ljust(max(0, length - 8), b"\0")
    was = int.from_bytes(HEIC[:4])
    head = (8 + len(brands)).to_bytes(4) + b"ftyp" + brands
    return moved(head + HEIC[was:], len(head) - was)


def moved(data: bytes, grown: int) -> bytes:
    """The file with the places of its items, which `iloc` tells, so many bytes further on."""
    for was in (0x1E2, 0x28B):
        place = data.index(was.to_bytes(4), data.index(b"iloc"))
        data = data[:place] + (was + grown).to_bytes(4) + data[place + 4 :]
    return data


def sent(streams: Served, person: Person, content: bytes) -> Any:
    """The record of a new file, of whose type nothing is told."""
    asked = {"content_type": "application/octet-stream", "content_disposition": 'attachment; filename="a"'}
    return streams.post("/v1/files", {}, content, authorization=person.headers["Authorization"], **asked).json


def secret_text() -> PngInfo:
    """A text in a PNG that tells where it was made."""
    found = PngInfo()
    found.add_text("Comment", "Reykjavik")
    return found


IMAGES = {
    "of a phone": (boxed(b"heic", b"mif1", b"heic"), "image/heic"),
    "ten bits": (boxed(b"heix", b"mif1", b"heix"), "image/heic"),
    "a sequence": (boxed(b"hevc", b"msf1", b"hevc"), "image/heic"),
    "a sequence of ten bits": (boxed(b"hevx"), "image/heic"),
    "any, encoded by HEVC": (boxed(b"mif1", b"miaf", b"heix"), "image/heic"),
    "any sequence, encoded by HEVC": (boxed(b"msf1", b"iso8", b"hevc"), "image/heic"),
    "any, encoded by AV1": (boxed(b"mif1", b"avis"), "image/avif"),
    "AVIF that moves": (boxed(b"avis", b"msf1", b"mp41", b"isom"), "image/avif"),
    "any, nobody says how": (boxed(b"mif1", b"miaf"), "image/heif"),
    "any of a profile": (boxed(b"MiHB", b"mif1", b"heix"), "image/heic"),
    "any of the second edition": (boxed(b"mif2", b"isom", b"heic"), "image/heic"),
    "ten bits, and MP4 beside it": (boxed(b"heix", b"mp41", b"isom"), "image/heic"),
    "a first box like the head of an icon": (boxed(b"heic", b"mif1", length=256), "image/heic"),
    "a first box like the head of an MPEG": (boxed(b"heix", b"mif1", length=432), "image/heic"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_in_boxes_is_one_by_any_of_its_brands(name: str) -> None:
    content, media_type = IMAGES[name]
    assert media_type_of(content) == media_type


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"\0\0\0\x18ftypisom\0\0\0\0mp41heic", "video/mp4"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "video/quicktime"),
        (b"\0\0\0\x14ftypnone\0\0\0\0heic", "application/octet-stream"),
        (b"\0\0\0\x08ftyp", "application/octet-stream"),
        (b"ftypheic", "text/plain"),
        (b"II", "text/plain"),
    ],
)
def test_what_is_no_image_in_boxes_is_not_taken_for_one(head: bytes, media_type: str) -> None:
    assert media_type_of(head) == media_type


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(100), "image/x-canon-cr3"),
        (b"\xff\x0a" + bytes(range(100)), "image/jxl"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100), "image/jxl"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100), "image/jp2"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(100), "image/x-fuji-raf"),
        (b"IIRO\x08\0\0\0" + bytes(100), "image/x-olympus-orf"),
        (b"IIU\0\x18\0\0\0" + bytes(100), "image/x-panasonic-rw2"),
        (b"II+\0\x08\0\0\0" + bytes(100), "image/tiff"),
    ],
)
def test_an_image_that_nobody_takes_apart_is_its_owners_alone(
    streams: Served, ada: Person, bob: Person, head: bytes, media_type: str
) -> None:
    made = sent(streams, ada, head)
    assert made["media_type"] == media_type
    assert ada.patch(f"/v1/files/{made['id']}", {"readers": [bob.id]}).status_code == 200
    path = f"/v1/files/{made['id']}/content"
    assert streams.ask("GET", path, "", **ada.headers).body == head
    assert streams.ask("GET", path, "", **bob.headers).json["code"] == "bad_image"


def test_a_png_that_moves_is_a_png(streams: Served, ada: Person, bob: Person) -> None:
    frames = [quarters(), quarters().rotate(90, expand=True).resize(quarters().size)]
    target = BytesIO()
    frames[0].save(target, "PNG", save_all=True, append_images=frames[1:], pnginfo=secret_text())
    made = sent(streams, ada, target.getvalue())
    assert (made["media_type"], made["width"]) == ("image/png", frames[0].width)
    assert ada.patch(f"/v1/files/{made['id']}", {"readers": [bob.id]}).status_code == 200
    path = f"/v1/files/{made['id']}/content"
    assert streams.ask("GET", path, "size=thumb", **bob.headers).status == 200
    theirs = streams.ask("GET", path, "", **bob.headers).body
    assert b"Reykjavik" in target.getvalue()
    assert b"Reykjavik" not in theirs
    assert getattr(Image.open(BytesIO(theirs)), "n_frames", 1) == 2


@pytest.mark.parametrize("name", IMAGES)
def test_others_get_no_place_of_an_image_in_boxes(streams: Served, ada: Person, bob: Person, name: str) -> None:
    content, media_type = IMAGES[name]
    made = sent(streams, ada, content)
    assert (made["media_type"], made["width"], made["height"]) == (media_type, ACROSS, DOWN)
    assert ada.patch(f"/v1/files/{made['id']}", {"readers": [bob.id]}).status_code == 200
    path = f"/v1/files/{made['id']}/content"
    assert streams.ask("GET", path, "", **ada.headers).body == content
    theirs = streams.ask("GET", path, "", **bob.headers)
    assert (theirs.status, len(theirs.body)) == (200, len(content))
    assert not [secret for secret in SECRETS if secret in theirs.body and secret != b"Exif"]
