"""Files and places in the console: uploaded in a form, looked at without running, and chosen on a map."""

import io
import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from mongoengine import GeoPointField, ListField, PointField, ReferenceField, StringField

from service.documents import AdminAction, File, Record
from service.pages.console_maps import mark, pressed_map
from service.pages.console_texts import CONSOLE_TEXTS
from service.upkeep import indexes
from tests.admin_browser import AdminBrowser, Form
from tests.client import Person
from tests.images import photo
from tests.types import SHIPPED
from tests.uploading import upload

TEXTS = CONSOLE_TEXTS["en"]
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>'
HTML = b"<!doctype html><script>alert(1)</script>"


class TripAlbum(Record):
    """A type of somebody's own, with files and places."""

    title = StringField(max_length=100)
    cover = ReferenceField(File)
    photos = ListField(ReferenceField(File))
    place = PointField(auto_index=False)
    homes = ListField(GeoPointField())
    meta = {"collection": "console_albums"}


@pytest.fixture
def admin(make_app: Any, ada: Person) -> Iterator[AdminBrowser]:
    """An admin of a service with such a type."""
    app: Flask = make_app([*SHIPPED, TripAlbum])
    with app.app_context():
        indexes.make(app.extensions["madang.registry"])
    yield AdminBrowser.of(ada, app)
    TripAlbum._get_collection().drop()


def sent(content: bytes, name: str) -> tuple[io.BytesIO, str]:
    """A file as a form sends it."""
    return io.BytesIO(content), name


def post(admin: AdminBrowser, path: str, texts: dict[str, Any]) -> Any:
    return admin.client.post(path, data=texts, content_type="multipart/form-data")


# Uploads


def test_a_file_is_uploaded_as_its_owner_and_shown(admin: AdminBrowser, bob: Person) -> None:
    form = admin.form("/admin/upload")
    answer = post(admin, "/admin/upload", {**form, "owner": "bob", "file": sent(photo("PNG"), "photo.png")})
    assert answer.status_code == 303, answer.text
    (file,) = bob.get("/v1/files").json["items"]
    assert answer.headers["Location"] == f"/admin/records/files/{file['id']}"
    assert (file["name"], file["media_type"], file["owner"]) == ("photo.png", "image/png", bob.id)
    assert (
        f'<img class="picture" src="/v1/files/{file["id"]}/content?link=' in admin.get(answer.headers["Location"]).text
    )
    action = AdminAction.objects(action="uploads").first()
    assert (action.owner, "photo.png" in action.after) == (bob.id, True)


@pytest.mark.parametrize("case", ["no file", "no owner", "no name", "too much"])
def test_what_cannot_be_uploaded_is_told_and_not_stored(make_app: Any, ada: Person, case: str) -> None:
    admin = AdminBrowser.of(ada, make_app(FILES_ACCOUNT_BYTES=100))
    form = {**admin.form("/admin/upload"), "owner": "none" if case == "no owner" else "ada"}
    files = {"no file": {}, "no name": {"file": sent(b"x", "")}, "too much": {"file": sent(b"x" * 101, "a")}}
    answer = post(admin, "/admin/upload", {**form, **files.get(case, {"file": sent(b"x", "a.txt")})})
    assert answer.status_code in (404, 413, 422)
    assert 'role="alert"' in answer.text
    assert File.objects.count() == 0


def test_a_file_is_uploaded_within_a_form_and_seen_before_it_is_saved(admin: AdminBrowser, bob: Person) -> None:
    path = "/admin/new/console_albums"
    page = admin.get(path).text
    assert 'enctype="multipart/form-data"' in page
    form = {**admin.form(path), "owner": "bob", "/title": "Summer"}
    chosen = {"do": "upload /cover", "file /cover": sent(photo("PNG"), "cover.png")}
    shown = post(admin, path, {**form, **chosen})
    assert shown.status_code == 200, shown.text
    form = Form(shown.text).texts
    (file,) = bob.get("/v1/files").json["items"]
    assert (form["/cover"], form["/title"], form["owner"]) == (file["id"], "Summer", "bob")
    assert f'src="/v1/files/{file["id"]}/content?link=' in shown.text
    assert TripAlbum.objects.count() == 0
    assert post(admin, path, {**form, "do": "save"}).status_code == 303
    stored = TripAlbum._get_collection().find_one()
    assert (stored["cover"], stored["owner"]) == (file["id"], bob.id)


def test_of_a_form_without_its_file_nothing_is_lost(admin: AdminBrowser) -> None:
    path = "/admin/new/console_albums"
    shown = post(admin, path, {**admin.form(path), "owner": "ada", "/title": "Summer", "do": "upload /cover"})
    assert (shown.status_code, Form(shown.text).texts["/title"]) == (200, "Summer")
    assert 'role="alert"' in shown.text
    assert File.objects.count() == 0


# Previews


@pytest.mark.parametrize(("name", "content"), [("a.svg", SVG), ("a.html", HTML), ("a.png", HTML), ("a.jpg", SVG)])
def test_what_could_run_is_no_picture_whatever_it_is_called(
    admin: AdminBrowser, bob: Person, name: str, content: bytes
) -> None:
    form = {**admin.form("/admin/upload"), "owner": "bob"}
    answer = post(admin, "/admin/upload", {**form, "file": sent(content, name)})
    page = admin.get(answer.headers["Location"]).text
    assert "<img" not in page
    assert TEXTS["bytes"] in page
    # Nobody is shown the bytes within a page: the link asks for no `inline`.
    assert "inline" not in page


def test_the_picture_of_a_file_is_a_smaller_one(admin: AdminBrowser, bob: Person) -> None:
    file = upload(bob, {"name": "a.png"}, photo("PNG"))["id"]
    page = admin.get(f"/admin/records/files/{file}").text
    (image,) = re.findall(r'<img class="picture" src="([^"]+)"', page)
    (whole,) = re.findall(rf'href="(/v1/files/{file}/content[^"]+)"', page)
    assert image != whole


# Maps


@pytest.mark.parametrize(
    ("longitude", "latitude", "place"),
    [
        ("0", "0", (150, 75)),
        ("-180", "90", (0, 0)),
        ("180", "-90", (300, 150)),
        ("127", "37.5", (255.8, 43.8)),
        ("", "", None),
        ("east", "1", None),
        ("181", "0", None),
        ("0", "91", None),
        ("nan", "0", None),
    ],
)
def test_a_point_has_its_place_on_the_map(longitude: str, latitude: str, place: Any) -> None:
    assert mark(longitude, latitude) == place


@pytest.mark.parametrize(
    ("pressed", "texts"),
    [
        ({"x": "150", "y": "75"}, {"/a#lon": "0", "/a#lat": "0"}),
        ({"x": "256", "y": "44"}, {"/a#lon": "127.2", "/a#lat": "37.2"}),
        ({"x": "0", "y": "0"}, {}),
        ({"x": "301", "y": "75"}, {}),
        ({"x": "-1", "y": "75"}, {}),
        ({"x": "1e999", "y": "nan"}, {}),
        ({"x": "5"}, {}),
    ],
)
def test_a_press_on_the_map_means_a_point(pressed: dict[str, str], texts: dict[str, str]) -> None:
    assert pressed_map({f"map /a.{axis}": text for axis, text in pressed.items()}) == ("/a", texts)
    assert pressed_map({"do": "save", "/a#lon": "1"}) is None


def test_a_point_is_chosen_on_the_map_and_shown_there(admin: AdminBrowser) -> None:
    path = "/admin/new/console_albums"
    form = {**admin.form(path), "owner": "ada", "/title": "Seoul"}
    form = Form(admin.post(path, {**form, "do": "add /homes"}).text).texts
    pressed = {f"map {at}.{axis}": text for at in ("/place",) for axis, text in (("x", "256"), ("y", "44"))}
    shown = admin.post(path, {**form, **pressed}).text
    form = Form(shown).texts
    assert (form["/place#lon"], form["/place#lat"], form["/title"]) == ("127.2", "37.2", "Seoul")
    assert '<circle cx="256.0" cy="44.0" r="5"/>' in shown
    form = Form(admin.post(path, {**form, "map /homes/0.x": "150", "map /homes/0.y": "75"}).text).texts
    assert (form["/homes/0#lon"], form["/homes/0#lat"]) == ("0", "0")
    assert TripAlbum.objects.count() == 0
    made = admin.post(path, {**form, "do": "save"}).headers["Location"]
    stored = TripAlbum._get_collection().find_one()
    assert (stored["place"]["coordinates"], stored["homes"]) == ([127.2, 37.2], [[0, 0]])
    assert '<circle cx="256.0" cy="44.0" r="5"/>' in admin.get(made).text


def test_a_map_that_is_none_of_the_form_changes_nothing(admin: AdminBrowser) -> None:
    path = "/admin/new/console_albums"
    form = admin.form(path)
    shown = admin.post(path, {**form, "map /title.x": "5", "map /title.y": "5"})
    assert (shown.status_code, Form(shown.text).texts["/title"]) == (200, "")


def shapes_of(svg: str) -> list[list[tuple[int, int]]]:
    """The polygons of the map, in its own pixels; every one of them is a whole path."""
    (data,) = re.findall(r' d="([^"]+)"', svg)
    assert re.fullmatch(r"(M-?\d+ -?\d+l-?\d+( ?-?\d+)+z)+", data)
    found = []
    for text in data.split("z")[:-1]:
        numbers = [int(one) for one in re.findall(r"-?\d+", text)]
        steps = list(zip(numbers[::2], numbers[1::2], strict=True))
        found.append([*itertools.accumulate(steps, lambda at, step: (at[0] + step[0], at[1] + step[1]))])
    return found


def is_within(shape: list[tuple[int, int]], x: float, y: float) -> bool:
    """Whether a ray from a point crosses the border of a polygon an odd number of times."""
    edges = zip(shape, [*shape[1:], shape[0]], strict=True)
    crossed = [
        a for a, b in edges if (a[1] > y) != (b[1] > y) and x < a[0] + (y - a[1]) * (b[0] - a[0]) / (b[1] - a[1])
    ]
    return len(crossed) % 2 == 1


def test_the_map_has_land_where_there_is_land(admin: AdminBrowser) -> None:
    shapes = shapes_of(admin.get("/admin/land.svg").text)
    land = {"Seoul": (127, 37.2), "Kansas": (-98, 38), "Brasilia": (-48, -16), "Nairobi": (37, -1), "Perth": (118, -28)}
    land |= {"Chukotka": (179, 68), "Chukotka, west": (-179, 67), "the pole": (0, -88)}
    sea = {"Hawaii": (-150, 10), "the Atlantic": (-35, 20), "the Indian Ocean": (80, -30), "the Arctic": (0, 87)}
    for name, (longitude, latitude) in (land | sea).items():
        x, y = (longitude + 180) / 360 * 640 + 0.01, (90 - latitude) / 180 * 320 + 0.01
        assert any(is_within(shape, x, y) for shape in shapes) is (name in land), name


def test_the_map_is_ours_and_holds_no_script(admin: AdminBrowser) -> None:
    answer = admin.get("/admin/land.svg")
    assert answer.mimetype == "image/svg+xml"
    assert len(answer.data) < 20_000
    assert not re.search(rb"script|href|style|on\w+=", answer.data)
