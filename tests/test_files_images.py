"""Images among files: smaller ones of them, their measure, and what others than the owner get."""

import io
from typing import Any

import pytest
from PIL import Image

from service.core.clock import now
from service.documents import Blob, BlobChunk
from service.files import images_kept
from service.files.blobs import GridFs
from service.files.check import faults
from service.files.images import Decoders
from service.files.uploads import Uploads
from service.streams import contents
from tests.client import Person
from tests.images import (
    ACROSS,
    DOWN,
    HEIC,
    SECRETS,
    chunk,
    gif_of_frames,
    is_upright,
    opened,
    photo,
    png_of_zeros,
    quarters,
    segment,
    written,
)
from tests.racing import at_once
from tests.streaming import Sent, Served
from tests.test_films import PLACE, film
from tests.types import REGISTRY

KINDS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "AVIF": "image/avif"}


def send(streams: Served, person: Person, body: bytes, name: str = "photo.jpg", **headers: str) -> dict[str, Any]:
    asked = {"authorization": person.headers["Authorization"], "content_type": "application/octet-stream"}
    named = {"content_disposition": f'attachment; filename="{name}"'}
    sent = streams.post("/v1/files", {}, body, **{**asked, **named, **headers})
    assert sent.status == 201, sent.json
    found: dict[str, Any] = sent.json
    return found


def get(streams: Served, person: Person, id: str, query: str = "", method: str = "GET", **headers: str) -> Sent:
    return streams.ask(method, f"/v1/files/{id}/content", query, **{**person.headers, **headers})


def share(owner: Person, id: str, *readers: Person) -> None:
    assert owner.patch(f"/v1/files/{id}", {"readers": [reader.id for reader in readers]}).status_code == 200


@pytest.fixture
def made(streams: Served, ada: Person) -> dict[str, Any]:
    return send(streams, ada, photo("JPEG", 6))


@pytest.fixture
def renderings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The media types of what is made, as it is made."""
    found: list[str] = []
    render = Decoders.render

    def counted(self: Decoders, pieces: Any, size: Any, media_type: str) -> bytes:
        found.append(media_type)
        return render(self, pieces, size, media_type)

    monkeypatch.setattr(Decoders, "render", counted)
    return found


# The measure


@pytest.mark.parametrize("file_format", KINDS)
def test_the_record_of_an_image_tells_its_measure_upright(streams: Served, ada: Person, file_format: str) -> None:
    made = send(streams, ada, photo(file_format, 6))
    assert (made["media_type"], made["width"], made["height"]) == (KINDS[file_format], ACROSS, DOWN)


def test_the_measure_of_a_large_image_is_found_in_its_parts(streams: Served, ada: Person) -> None:
    plain = photo("JPEG", 6)
    large = plain[:2] + segment(0xFE, bytes(60_000)) * 40 + plain[2:]
    assert (made := send(streams, ada, large))["width"] == ACROSS
    assert made["size"] == len(large)


def test_what_is_broken_or_no_image_is_a_file_without_a_measure(streams: Served, ada: Person) -> None:
    for content in (photo("JPEG")[:200], b"<svg xmlns='http://www.w3.org/2000/svg' width='9'/>", b"hello"):
        made = send(streams, ada, content)
        assert (made["width"], made["height"]) == (None, None)


# Smaller images


def test_a_smaller_image_is_upright_and_small(streams: Served, ada: Person, made: dict[str, Any]) -> None:
    sent = get(streams, ada, made["id"], "size=thumb")
    assert sent.status == 200
    assert sent.headers["content-type"] == "image/webp"
    assert sent.headers["content-length"] == str(len(sent.body))
    assert sent.headers["content-disposition"].startswith('attachment; filename="photo.webp"')
    assert "Accept" in sent.headers["vary"]
    assert opened(sent.body).size == (DOWN, DOWN)
    screen = get(streams, ada, made["id"], "size=screen")
    assert opened(screen.body).size == (ACROSS, DOWN)
    assert is_upright(opened(screen.body), far=60)
    assert not [secret for secret in SECRETS if secret in sent.body + screen.body]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("image/jpeg", "image/jpeg"),
        ("image/png", "image/png"),
        ("image/avif,image/webp,image/apng,image/*,*/*;q=0.8", "image/webp"),
        ("image/png;q=0.9, image/jpeg;q=0.8, image/webp;q=0.1", "image/png"),
        ("image/*;q=0.5, image/webp;q=0", "image/jpeg"),
        ("application/json", "image/webp"),
        ("image/jpeg;q=nan, image/png;q=1e9, image/webp;q=-", "image/webp"),
    ],
)
def test_accept_chooses_the_format(
    streams: Served, ada: Person, made: dict[str, Any], accept: str, media_type: str
) -> None:
    sent = get(streams, ada, made["id"], "size=thumb", accept=accept)
    assert sent.headers["content-type"] == media_type
    assert Image.MIME[opened(sent.body).format or ""] == media_type


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (HEIC, "HEIC"),
        (photo("AVIF"), "AVIF"),
        (photo("WEBP"), "WebP"),
        (written(quarters(), "GIF"), "GIF"),
        (photo("PNG"), "PNG"),
        (written(quarters().convert("CMYK"), "JPEG", quality=95), "CMYK"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_format_is_made_smaller(streams: Served, ada: Person, content: bytes, name: str) -> None:
    made = send(streams, ada, content, name)
    sent = get(streams, ada, made["id"], "size=screen")
    assert sent.status == 200, sent.json
    assert is_upright(opened(sent.body), far=60)


def test_it_is_made_once_and_kept(streams: Served, ada: Person, made: dict[str, Any], renderings: list[str]) -> None:
    first = get(streams, ada, made["id"], "size=thumb")
    again = get(streams, ada, made["id"], "size=thumb")
    assert renderings == ["image/webp"]
    assert (again.body, again.headers["etag"]) == (first.body, first.headers["etag"])
    assert get(streams, ada, made["id"], "size=thumb", if_none_match=first.headers["etag"]).status == 304
    part = get(streams, ada, made["id"], "size=thumb", range="bytes=4-9")
    assert (part.status, part.body) == (206, first.body[4:10])
    head = get(streams, ada, made["id"], "size=thumb", method="HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(first.body)))
    assert get(streams, ada, made["id"]).headers["etag"] != first.headers["etag"]


def test_those_who_ask_at_once_get_the_same_one(
    streams: Served, ada: Person, made: dict[str, Any], renderings: list[str]
) -> None:
    found = at_once(*[lambda: get(streams, ada, made["id"], "size=thumb")] * 8)
    assert renderings == ["image/webp"]
    assert len({sent.body for sent in found}) == 1


def test_it_counts_in_nobodys_storage_and_goes_with_the_file(
    streams: Served, ada: Person, made: dict[str, Any]
) -> None:
    used = ada.get("/v1/accounts/me").json["storage"]["used"]
    assert used == made["size"]
    get(streams, ada, made["id"], "size=thumb")
    get(streams, ada, made["id"], "size=screen", accept="image/png")
    assert ada.get("/v1/accounts/me").json["storage"]["used"] == used
    assert Blob._get_collection().count_documents({}) == 3
    assert list(faults(GridFs(), content=True)) == []
    assert ada.delete(f"/v1/files/{made['id']}").status_code == 204
    Uploads(REGISTRY, GridFs(), used).sweep()
    assert Blob._get_collection().count_documents({}) == BlobChunk._get_collection().count_documents({}) == 0
    assert ada.get("/v1/accounts/me").json["storage"]["used"] == 0


def test_one_that_is_made_while_the_file_goes_is_not_kept(
    streams: Served, ada: Person, made: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    render = Decoders.render

    def late(self: Decoders, pieces: Any, size: Any, media_type: str) -> bytes:
        found = render(self, pieces, size, media_type)
        ada.delete(f"/v1/files/{made['id']}")
        return found

    monkeypatch.setattr(Decoders, "render", late)
    assert get(streams, ada, made["id"], "size=thumb").status == 404
    Blob._get_collection().update_many({"file": None}, {"$set": {"expires_at": now() - images_kept.LIFE}})
    Uploads(REGISTRY, GridFs(), 0).sweep()
    assert Blob._get_collection().count_documents({}) == BlobChunk._get_collection().count_documents({}) == 0


def test_one_that_is_being_stored_elsewhere_is_sent_all_the_same(
    streams: Served, ada: Person, made: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    render = Decoders.render

    def elsewhere(self: Decoders, pieces: Any, size: Any, media_type: str) -> bytes:
        record = REGISTRY["files"].collection.find_one({"_id": made["id"]})
        found = render(self, pieces, size, media_type)
        images_kept.keep(GridFs(), record, images_kept.rendition_of(size, media_type), found)
        return found

    monkeypatch.setattr(Decoders, "render", elsewhere)
    assert get(streams, ada, made["id"], "size=thumb").status == 200
    assert Blob._get_collection().count_documents({}) == 2


# What is not made


@pytest.mark.parametrize(
    ("content", "code", "detail"),
    [
        (photo("JPEG")[:1000], "bad_image", "broken"),
        (b"hello", "bad_image", "text/plain"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", "bad_image", "image/svg+xml"),
    ],
)
def test_what_cannot_be_made_smaller_is_told_so(
    streams: Served, ada: Person, content: bytes, code: str, detail: str
) -> None:
    made = send(streams, ada, content)
    sent = get(streams, ada, made["id"], "size=thumb")
    assert (sent.status, sent.json["code"]) == (422, code)
    assert detail in sent.json["detail"]
    assert get(streams, ada, made["id"]).body == content


def test_a_bomb_is_refused_by_what_it_says_of_itself(streams: Served, ada: Person, renderings: list[str]) -> None:
    made = send(streams, ada, png_of_zeros(30_000, 30_000), "bomb.png")
    assert (made["width"], made["height"]) == (30_000, 30_000)
    for _ in range(2):
        sent = get(streams, ada, made["id"], "size=thumb")
        assert (sent.status, sent.json["code"]) == (422, "bad_image")
        assert "at most 100000000 are decoded" in sent.json["detail"]
    assert len(renderings) == 1


def test_what_was_refused_is_tried_again_later(
    streams: Served, ada: Person, renderings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = send(streams, ada, photo("JPEG")[:1000])
    assert get(streams, ada, made["id"], "size=thumb").status == 422
    monkeypatch.setattr(contents, "REFUSED_FOR", 0.0)
    assert get(streams, ada, made["id"], "size=thumb").status == 422
    assert len(renderings) == 2


def test_a_size_that_there_is_not_is_named(streams: Served, ada: Person, made: dict[str, Any]) -> None:
    sent = get(streams, ada, made["id"], "size=huge")
    assert (sent.status, sent.json["code"]) == (400, "bad_parameter")
    assert sent.json["errors"] == [{"parameter": "size", "code": "not_allowed", "detail": "one of thumb, screen"}]


def test_who_may_not_read_the_file_gets_no_smaller_one(
    streams: Served, ada: Person, bob: Person, made: dict[str, Any]
) -> None:
    assert get(streams, ada, made["id"], "size=thumb").status == 200
    there, nowhere = (get(streams, bob, id, "size=thumb") for id in (made["id"], "no-such-file"))
    assert there.status == nowhere.status == 404
    share(ada, made["id"], bob)
    assert get(streams, bob, made["id"], "size=thumb").status == 200


# What others get


@pytest.mark.parametrize("file_format", KINDS)
def test_others_get_an_image_without_place_and_device(
    streams: Served, ada: Person, bob: Person, file_format: str
) -> None:
    content = photo(file_format, 6 if file_format != "AVIF" else 1)
    made = send(streams, ada, content)
    share(ada, made["id"], bob)
    own, theirs = get(streams, ada, made["id"]), get(streams, bob, made["id"])
    assert own.body == content
    assert theirs.status == 200
    assert theirs.headers["etag"] != own.headers["etag"]
    assert theirs.headers["content-length"] == str(len(theirs.body))
    assert not [secret for secret in SECRETS if secret in theirs.body and secret != b"Exif"]
    assert opened(theirs.body).tobytes() == opened(content).tobytes()
    assert get(streams, bob, made["id"], if_none_match=theirs.headers["etag"]).status == 304


def test_others_get_a_film_without_its_place(streams: Served, ada: Person, bob: Person) -> None:
    content = film()
    made = send(streams, ada, content)
    assert made["media_type"] == "video/quicktime"
    share(ada, made["id"], bob)
    own, theirs = get(streams, ada, made["id"]), get(streams, bob, made["id"])
    assert own.body == content
    assert (theirs.status, len(theirs.body)) == (200, len(content))
    assert PLACE in own.body
    assert PLACE not in theirs.body
    assert theirs.headers["etag"] != own.headers["etag"]
    part = get(streams, bob, made["id"], range="bytes=10-99")
    assert (part.status, part.body) == (206, theirs.body[10:100])


def test_others_get_ranges_of_what_they_get(streams: Served, ada: Person, bob: Person, made: dict[str, Any]) -> None:
    share(ada, made["id"], bob)
    whole = get(streams, bob, made["id"]).body
    part = get(streams, bob, made["id"], range="bytes=10-99")
    assert (part.status, part.body) == (206, whole[10:100])
    assert part.headers["content-range"] == f"bytes 10-99/{len(whole)}"
    own = get(streams, ada, made["id"])
    mixed = get(streams, bob, made["id"], range="bytes=10-99", if_range=own.headers["etag"])
    assert (mixed.status, mixed.body) == (200, whole)


def test_html_in_a_comment_is_not_what_others_get(streams: Served, ada: Person, bob: Person) -> None:
    plain = written(quarters(), "JPEG")
    made = send(streams, ada, plain[:2] + segment(0xFE, b"*/<html><script>alert(1)</script>") + plain[2:])
    share(ada, made["id"], bob)
    shown = get(streams, bob, made["id"], "inline=true")
    assert shown.headers["content-type"] == "image/jpeg"
    assert b"<script>" not in shown.body


@pytest.mark.parametrize(
    "content",
    [
        photo("JPEG")[:1000],
        written(quarters(), "TIFF"),
        photo("PNG")[:-12] + chunk(b"eXIf", b"GPS")[:-2],
    ],
    ids=["broken", "TIFF", "no end"],
)
def test_what_nobody_can_tell_about_is_its_owners_alone(
    streams: Served, ada: Person, bob: Person, content: bytes
) -> None:
    made = send(streams, ada, content)
    share(ada, made["id"], bob)
    sent = get(streams, bob, made["id"])
    assert (sent.status, sent.json["code"]) == (422, "bad_image")
    assert get(streams, ada, made["id"]).body == content


@pytest.mark.parametrize("content", [b"hello", b"BM" + bytes(60), gif_of_frames(3)], ids=["text", "BMP", "GIF"])
def test_what_has_no_place_for_a_place_is_the_same_for_all(
    streams: Served, ada: Person, bob: Person, content: bytes
) -> None:
    made = send(streams, ada, content)
    share(ada, made["id"], bob)
    assert get(streams, bob, made["id"]).body == content


def test_a_large_image_is_shared_part_by_part(streams: Served, ada: Person, bob: Person) -> None:
    noise = Image.effect_noise((1500, 1000), 100).convert("RGB")
    content = written(noise, "PNG", compress_level=0)
    made = send(streams, ada, content, "noise.png")
    share(ada, made["id"], bob)
    body = get(streams, bob, made["id"]).body
    assert Image.open(io.BytesIO(body)).tobytes() == noise.tobytes()
