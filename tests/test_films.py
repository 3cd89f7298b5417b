"""Films that are shared: others get the pictures and the sound, at their places, and not where they were taken."""

import struct

import pytest

from service.files.films import FILMS, MOST_SAMPLES, MOST_SPANS, shared_film
from service.files.images_parts import SharedBytes
from service.files.media_types import media_type_of
from tests.test_images_format import whole

pytestmark = pytest.mark.once

PLACE, DEVICE, GPS = b"+37.5665+126.9780/", b"Phone 18 Pro", b"GPS5 37.5665 126.9780"
PICTURES, SOUND = b"picture-one", b"a tone"
SECRETS = (PLACE, DEVICE, GPS)


def box(kind: bytes, *parts: bytes, large: bool = False) -> bytes:
    content = b"".join(parts)
    if large:
        return struct.pack(">I4sQ", 1, kind, len(content) + 16) + content
    return struct.pack(">I4s", len(content) + 8, kind) + content


def table(*numbers: int, code: str = "I", columns: int = 1) -> bytes:
    """A table behind its version and the number of its rows."""
    return struct.pack(f">II{len(numbers)}{code}", 0, len(numbers) // columns, *numbers)


def track(handler: bytes, chunks: list[int], sizes: list[int], each: int = 1, wide: bool = False) -> bytes:
    """A track of so many samples in each chunk."""
    places = box(b"co64", table(*chunks, code="Q")) if wide else box(b"stco", table(*chunks))
    lengths = struct.pack(f">III{len(sizes)}I", 0, 0, len(sizes), *sizes)
    samples = box(
        b"stbl", box(b"stsd", bytes(8)), box(b"stsc", table(1, each, 1, columns=3)), box(b"stsz", lengths), places
    )
    media = box(b"mdia", box(b"mdhd", bytes(24)), box(b"hdlr", bytes(8), handler, bytes(13)), box(b"minf", samples))
    return box(b"trak", box(b"tkhd", bytes(84)), media, box(b"udta", box(b"name", DEVICE)))


def film(wide: bool = False, first: bool = False) -> bytes:
    """As a phone writes it, with what it measures in a track of its own; its head behind the pictures, or `first`."""

    def head(data_at: int) -> bytes:
        sound_at = data_at + len(PICTURES)
        gps = [sound_at + len(SOUND), sound_at + 2 * len(SOUND) + len(GPS)]
        return box(
            b"moov",
            box(b"mvhd", bytes(100)),
            track(b"vide", [data_at], [len(PICTURES)], wide=wide),
            track(b"soun", [sound_at, gps[0] + len(GPS)], [len(SOUND)] * 2, wide=wide),
            track(b"meta", gps, [len(GPS) - 4, 4] * 2, each=2, wide=wide),
            box(b"udta", box(b"\xa9xyz", struct.pack(">HH", len(PLACE), 0), PLACE), box(b"loci", PLACE)),
            box(b"meta", box(b"keys", b"com.apple.quicktime.location.ISO6709"), box(b"ilst", PLACE, DEVICE)),
            box(b"uuid", bytes(16), b"<x:xmpmeta>", PLACE),
        )

    begin = box(b"ftyp", b"qt  \0\0\0\0qt  ") + box(b"wide")
    data = PICTURES + SOUND + GPS + SOUND + GPS
    more = box(b"uuid", PLACE) + box(b"free", DEVICE)
    data_at = len(begin) + (16 if wide else 8) + (len(head(0)) if first else 0)
    pictures = box(b"mdat", data, large=wide)
    return begin + (head(data_at) + pictures if first else pictures + head(data_at)) + more


def read_of(data: bytes) -> SharedBytes | None:
    return shared_film(lambda first, stop: data[first:stop], len(data))


def shared(data: bytes) -> bytes:
    found = read_of(data)
    assert found is not None
    return whole(found)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_others_get_a_film_without_place_and_device(wide: bool, first: bool) -> None:
    data = film(wide, first)
    assert media_type_of(data) in FILMS
    assert all(secret in data for secret in SECRETS)
    found = shared(data)
    assert not [secret for secret in (*SECRETS, b"com.apple", b"\xa9xyz", b"xmpmeta") if secret in found]
    # Pictures and sound are where the tables say.
    assert len(found) == len(data)
    for shown in (PICTURES, SOUND):
        assert found.find(shown) == data.find(shown)
        assert found.count(shown) == data.count(shown)
    assert [found.count(kind) for kind in (b"vide", b"soun", b"stco" if not wide else b"co64")] == [1, 1, 2]


def test_what_others_get_has_nothing_more_to_take_out() -> None:
    assert shared(shared(film())) == shared(film())


def test_a_film_without_a_place_is_given_as_it_is() -> None:
    data = box(b"ftyp", b"isom\0\0\0\0") + box(b"mdat", PICTURES) + box(b"moov", box(b"mvhd", bytes(100)))
    assert shared(data) == data


@pytest.mark.parametrize("data", [film() + bytes(4), film() + b"SEFT1234", film() + PLACE, film(first=True)[:-40]])
def test_what_is_behind_the_last_box_and_a_box_that_is_cut_off_tell_nothing(data: bytes) -> None:
    found = shared(data)
    assert len(found) == len(data)
    assert not [secret for secret in SECRETS if secret in found]
    assert PICTURES in found


def test_of_a_recording_that_broke_off_others_get_what_is_there() -> None:
    whole_film = film(first=True)
    data = whole_film[: whole_film.index(SOUND) + len(SOUND)]
    found = shared(data)
    assert (PLACE in found, found.endswith(PICTURES + SOUND)) == (False, True)


FRAGMENT = box(b"moof", box(b"mfhd", bytes(8)), box(b"traf", box(b"tfhd", bytes(8))), box(b"udta", PLACE))


def test_a_fragment_has_no_place() -> None:
    begin = box(b"ftyp", b"isom\0\0\0\0") + box(b"moov", box(b"mvhd", bytes(100)), track(b"vide", [], []))
    found = shared(begin + FRAGMENT + box(b"mdat", PICTURES))
    assert (PLACE in found, PICTURES in found, found.count(b"traf")) == (False, True, 1)


def test_names_that_a_camera_gives_its_tracks_are_not_told() -> None:
    handler = box(b"hdlr", bytes(8), b"vide", bytes(12), b"GoPro AVC")
    found = shared(box(b"ftyp", b"isom\0\0\0\0") + box(b"moov", box(b"trak", box(b"mdia", handler))))
    assert (b"GoPro" in found, b"vide" in found) == (False, True)


def test_what_is_hidden_is_no_piece_of_its_own() -> None:
    data = film()
    found = read_of(data)
    assert found is not None
    # The chunks that are hidden are zeros in what is read, and no pieces of their own.
    begin = data.index(PICTURES)
    assert found.read(begin, len(data))[: len(PICTURES + SOUND + GPS)] == PICTURES + SOUND + bytes(len(GPS))


@pytest.mark.parametrize(
    "data",
    [
        film().replace(b"stsz", b"stz2"),
        film().replace(box(b"mvhd", bytes(100)), struct.pack(">I4s", 999_999, b"mvhd") + bytes(100)),
        film() + FRAGMENT,
    ],
    ids=["a table of another kind", "a box beyond its own", "a track that is hidden in fragments"],
)
def test_a_film_of_which_nobody_can_tell_is_not_given(data: bytes) -> None:
    assert read_of(data) is None


def test_a_table_that_is_said_to_be_long_is_not_read() -> None:
    data = film().replace(table(1, 2, 1, columns=3), struct.pack(">II", 0, MOST_SAMPLES) + bytes(12))
    assert data != film()
    assert read_of(data) is None


def hidden_film(runs: list[int], chunks: int) -> bytes:
    """A film with one track of what is measured, with these rows of `stsc`."""
    samples = box(
        b"stbl",
        box(b"stsc", table(*runs, columns=3)),
        box(b"stsz", struct.pack(">III", 0, 1, chunks)),
        box(b"stco", table(*range(chunks))),
    )
    media = box(b"mdia", box(b"hdlr", bytes(8), b"meta", bytes(13)), box(b"minf", samples))
    return box(b"ftyp", b"isom\0\0\0\0") + box(b"moov", box(b"trak", media))


def test_rows_that_go_back_do_not_have_chunks_looked_at_again() -> None:
    """A thousand rows of three thousand chunks would be three million pieces, of a file of 37 KB."""
    runs = [number for _ in range(500) for number in (1, 1, 1, 3001, 1, 1)]
    assert read_of(hidden_film(runs, 3000)) is None
    assert read_of(hidden_film([1, 1, 1], 3000)) is not None


def test_a_film_is_hidden_in_so_many_pieces_and_no_more() -> None:
    assert read_of(hidden_film([1, 1, 1], MOST_SPANS + 1)) is None


def test_any_byte_may_be_another_one() -> None:
    data = film()
    for place in range(len(data)):
        for value in (0, 1, 255):
            found = read_of(data[:place] + bytes([value]) + data[place + 1 :])
            assert found is None or len(whole(found)) == len(data)
