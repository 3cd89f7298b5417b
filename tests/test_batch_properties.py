"""Whatever requests a batch holds, each is answered as if it came alone; an atomic batch does all of them or none."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.documents import Note
from tests.client import Person
from tests.properties import examples

Json = dict[str, Any]

IDS = st.sampled_from(["a", "b", "c"])
TITLES = st.sampled_from(["x", "y", ""])
HEADERS = st.sampled_from([{}, {}, {"If-Match": '"1"'}, {"If-Match": '"2"'}, {"If-Match": "*"}])


def requests_of(method: str, path: st.SearchStrategy[str], body: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({"method": st.just(method), "path": path, "body": body, "headers": HEADERS})


ITEMS = IDS.map("/v1/notes/{}".format)
CHANGES = st.fixed_dictionaries(
    {}, optional={"title": TITLES, "$inc": st.just({"priority": 2}), "owner": st.just("me")}
)
REQUESTS = st.lists(
    st.one_of(
        requests_of("POST", st.just("/v1/notes"), st.fixed_dictionaries({"id": IDS, "title": TITLES})),
        requests_of("PUT", ITEMS, st.fixed_dictionaries({"title": TITLES})),
        requests_of("PATCH", ITEMS, CHANGES),
        requests_of("DELETE", ITEMS, st.none()),
        requests_of("GET", ITEMS, st.none()),
        requests_of("GET", st.sampled_from(["/v1/notes?sort=title", "/v1/notes?limit=0"]), st.none()),
    ),
    min_size=1,
    max_size=6,
)
SENT = ("Content-Type", "ETag", "Location", "Link", "Allow", "Retry-After", "WWW-Authenticate")
CHANGING = frozenset({"created_at", "updated_at", "request_id"})


def steady(value: Any) -> Any:
    """A value without what differs from one time to the next."""
    if isinstance(value, dict):
        return {name: steady(member) for name, member in value.items() if name not in CHANGING}
    return [steady(member) for member in value] if isinstance(value, list) else value


def begin(ada: Person) -> None:
    """Leave one note, and nothing of the run before."""
    Note._get_collection().delete_many({})
    ada.make_note(id="a", title="first")


def stored() -> list[Json]:
    return [steady(row) for row in Note._get_collection().find(projection={"purge_at": 0}, sort=[("_id", 1)])]


def alone(ada: Person, parts: list[Json]) -> list[Json]:
    """The answers to requests that come one by one, as a batch shows them."""
    found = []
    for part in parts:
        answer = ada.send(part["method"], part["path"], part["body"], headers=part["headers"])
        headers = {name: answer.headers[name] for name in SENT if name in answer.headers}
        found.append({"status": answer.status_code, "headers": headers, "body": answer.json if answer.data else None})
    return steady(found)


def together(ada: Person, parts: list[Json], **options: Any) -> list[Json]:
    """The answers to the same requests in one batch."""
    answer = ada.post("/v1/batch", {"requests": parts, **options})
    assert answer.status_code == 200, answer.json
    found = answer.json["responses"]
    for part in found:
        part["headers"].pop("X-Request-ID", None)
    return steady(found)


@given(parts=REQUESTS)
@examples(30)
def test_a_batch_is_answered_as_its_requests_are_alone(ada: Person, parts: list[Json]) -> None:
    begin(ada)
    wanted = alone(ada, parts)
    left = stored()
    begin(ada)
    assert together(ada, parts) == wanted
    assert stored() == left


@pytest.mark.real
@given(parts=REQUESTS)
@examples(30)
def test_an_atomic_batch_does_what_its_requests_do_alone_or_nothing(ada: Person, parts: list[Json]) -> None:
    begin(ada)
    wanted = alone(ada, parts)
    left = stored()
    begin(ada)
    before = stored()
    found = together(ada, parts, atomic=True)
    failed = next((index for index, answer in enumerate(wanted) if answer["status"] >= 400), None)
    if failed is None:
        assert found == wanted
        assert stored() == left
    else:
        assert found[failed] == wanted[failed]
        assert {answer["status"] for index, answer in enumerate(found) if index != failed} <= {424}
        assert stored() == before
