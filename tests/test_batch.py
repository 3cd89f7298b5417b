"""Many requests in one."""

import pytest

from service.documents import Note
from tests.client import PASSWORD, Person, Phone, pointers


def part(method: str, path: str, body: object = None, **headers: str) -> dict[str, object]:
    made: dict[str, object] = {"method": method, "path": path}
    return made | ({"body": body} if body is not None else {}) | ({"headers": headers} if headers else {})


def test_each_request_is_answered_in_order_as_if_sent_alone(ada: Person) -> None:
    answer = ada.post(
        "/v1/batch",
        {
            "requests": [
                part("POST", "/v1/notes", {"id": "n1", "title": "one"}),
                part("GET", "/v1/notes/n1"),
                part("PATCH", "/v1/notes/n1", {"$inc": {"priority": 2}}),
                part("GET", "/v1/notes/nowhere"),
                part("POST", "/v1/notes", {"title": 5}),
                part("DELETE", "/v1/notes/n1"),
            ]
        },
    )
    assert answer.status_code == 200
    responses = answer.json["responses"]
    assert [response["status"] for response in responses] == [201, 200, 200, 404, 422, 204]
    assert responses[0]["headers"]["Location"] == "/v1/notes/n1"
    assert responses[2]["body"]["priority"] == 2
    assert responses[3]["body"]["code"] == "not_found"
    assert responses[5]["body"] is None


def test_a_query_string_and_conditions_work_inside(ada: Person) -> None:
    note = ada.make_note()
    responses = ada.post(
        "/v1/batch",
        {
            "requests": [
                part("GET", "/v1/notes?limit=1&fields=title"),
                part("PATCH", f"/v1/notes/{note['id']}", {"title": "x"}, **{"If-Match": '"7"'}),
                part("GET", f"/v1/notes/{note['id']}", **{"if-none-match": '"1"'}),
            ]
        },
    ).json["responses"]
    assert responses[0]["body"]["items"] == [{"id": note["id"], "title": "a note"}]
    assert [response["status"] for response in responses] == [200, 412, 304]


def test_each_request_has_an_id_of_its_own_and_the_batch_keeps_its(ada: Person) -> None:
    requests = {"requests": [part("GET", "/v1/notes")] * 2}
    answer = ada.post("/v1/batch", requests, headers={"X-Request-ID": "mine"})
    assert answer.headers["X-Request-ID"] == "mine"
    assert [part["headers"]["X-Request-ID"] for part in answer.json["responses"]] == ["mine.0", "mine.1"]


@pytest.mark.parametrize(
    ("request_", "pointer"),
    [
        ({"method": "GET", "path": "/auth"}, "/requests/0/path"),
        ({"method": "GET", "path": "/v1/batch"}, "/requests/0/path"),
        ({"method": "GET", "path": "http://elsewhere/v1/notes"}, "/requests/0/path"),
        ({"method": "TRACE", "path": "/v1/notes"}, "/requests/0/method"),
        ({"method": "GET", "path": "/v1/notes", "headers": {"Authorization": "Bearer x"}}, "/requests/0/headers"),
        ({"method": "GET", "path": "/v1/notes", "headers": {"If-Match": "a\r\nb"}}, "/requests/0/headers"),
        (
            {"method": "GET", "path": "/v1/notes", "headers": {"If-Match": '"1"', "if-match": '"2"'}},
            "/requests/0/headers",
        ),
        ({"method": "get", "path": "/v1/notes"}, "/requests/0/method"),
        ({"method": "GET", "path": "/v1/notes", "more": 1}, "/requests/0/more"),
        ("GET /v1/notes", "/requests/0"),
    ],
)
def test_a_request_that_could_not_be_sent_alone_is_refused(ada: Person, request_: object, pointer: str) -> None:
    assert pointer in pointers(ada.post("/v1/batch", {"requests": [request_]}))


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_body_that_nobody_reads_is_refused_in_a_batch_and_alone(ada: Person, method: str) -> None:
    note = ada.make_note()
    path = f"/v1/notes/{note['id']}"
    (in_a_batch,) = ada.post("/v1/batch", {"requests": [part(method, path, {"title": "x"})]}).json["responses"]
    assert (in_a_batch["status"], in_a_batch["body"]["code"]) == (400, "bad_request")
    assert ada.send(method, path, {"title": "x"}).json["code"] == "bad_request"
    assert ada.send(method, path, data=b"", content_type="application/json").status_code in (200, 204)


def test_a_batch_holds_50_requests(ada: Person) -> None:
    assert ada.post("/v1/batch", {"requests": [part("GET", "/v1/accounts/me")] * 50}).status_code == 200
    assert pointers(ada.post("/v1/batch", {"requests": [part("GET", "/v1/notes")] * 51})) == {"/requests": "too_long"}


def test_nobody_sends_a_batch(phone: Phone) -> None:
    assert phone.post("/v1/batch", {"requests": []}).status_code == 401


def test_a_batch_reaches_what_its_sender_may_and_no_more(ada: Person, bob: Person) -> None:
    note = ada.make_note()
    answer = bob.post("/v1/batch", {"requests": [part("PATCH", f"/v1/notes/{note['id']}", {"title": "mine"})]})
    assert answer.json["responses"][0]["status"] == 404


def test_an_atomic_batch_needs_a_real_mongodb(ada: Person, pytestconfig: pytest.Config) -> None:
    answer = ada.post("/v1/batch", {"atomic": True, "requests": []})
    assert answer.status_code == (200 if pytestconfig.getoption("--mongodb") else 501)


@pytest.mark.real
def test_an_atomic_batch_does_all(ada: Person) -> None:
    requests = [part("POST", "/v1/notes", {"id": f"n{i}", "title": "x"}) for i in range(3)]
    requests.append(part("PATCH", "/v1/notes/n1", {"title": "y"}))
    answer = ada.post("/v1/batch", {"atomic": True, "requests": requests})
    assert [response["status"] for response in answer.json["responses"]] == [201, 201, 201, 200]
    assert Note._get_collection().find_one({"_id": "n1"})["title"] == "y"


@pytest.mark.real
@pytest.mark.parametrize(
    ("failing", "status"),
    [
        (part("POST", "/v1/notes", {"id": "taken", "title": "x"}), 409),
        (part("PUT", "/v1/notes/others", {"title": "x"}), 409),
        (part("GET", "/v1/notes/nowhere"), 404),
        (part("POST", "/v1/notes", {"title": ""}), 422),
    ],
)
def test_the_first_failure_undoes_an_atomic_batch(ada: Person, bob: Person, failing: dict, status: int) -> None:
    ada.make_note(id="taken")
    bob.make_note(id="others")
    requests = [part("POST", "/v1/notes", {"id": "n1", "title": "x"}), failing, part("DELETE", "/v1/notes/taken")]
    answer = ada.post("/v1/batch", {"atomic": True, "requests": requests})
    assert [response["status"] for response in answer.json["responses"]] == [424, status, 424]
    assert answer.json["responses"][0]["body"]["code"] == "failed_dependency"
    assert ada.get("/v1/notes/n1").status_code == 404
    assert ada.get("/v1/notes/taken").status_code == 200


@pytest.mark.real
def test_a_reader_who_writes_in_an_atomic_batch_is_forbidden(ada: Person, bob: Person) -> None:
    ada.make_note(id="n1", readers=[bob.id])
    answer = bob.post("/v1/batch", {"atomic": True, "requests": [part("PUT", "/v1/notes/n1", {"title": "x"})]})
    assert answer.json["responses"][0]["status"] == 403


def test_the_key_of_an_atomic_batch_stands_on_the_batch(ada: Person) -> None:
    inner = part("POST", "/v1/notes", {"title": "x"}, **{"Idempotency-Key": "k"})
    assert ada.post("/v1/batch", {"atomic": True, "requests": [inner]}).status_code == 422


@pytest.mark.real
@pytest.mark.parametrize("atomic", [False, True])
def test_a_batch_that_ends_its_own_session_goes_no_further(ada: Person, atomic: bool) -> None:
    end = part("DELETE", f"/v1/accounts/me/sessions/{ada.tokens['session_id']}")
    body = {"atomic": atomic, "requests": [end, part("POST", "/v1/notes", {"title": "x"})]}
    statuses = [response["status"] for response in ada.post("/v1/batch", body).json["responses"]]
    assert statuses == ([424, 401] if atomic else [204, 401])
    assert Note.objects.count() == 0
    assert ada.get("/v1/accounts/me").status_code == (200 if atomic else 401)


def queue(title: str) -> list[dict[str, object]]:
    """What a phone has done while it was away, each write with a key of its own."""
    return [
        part("POST", "/v1/notebooks", {"id": "book", "title": "b"}, **{"Idempotency-Key": "k1"}),
        part(
            "POST", "/v1/notes", {"id": "n1", "title": title, "notebook": "book"}, **{"Idempotency-Key": f"k2{title}"}
        ),
        part("PATCH", "/v1/notes/n1", {"$inc": {"priority": 1}}, **{"Idempotency-Key": "k3"}),
    ]


def test_a_batch_that_stops_on_an_error_leaves_the_rest_undone(ada: Person) -> None:
    answer = ada.post("/v1/batch", {"on_error": "stop", "requests": [*queue(""), part("GET", "/v1/notes")]})
    responses = answer.json["responses"]
    assert [response["status"] for response in responses] == [201, 422, 424, 424]
    assert responses[2]["body"]["detail"] == "request 1 of the batch failed, so those after it were not tried"
    assert ada.get("/v1/notebooks/book").status_code == 200
    assert ada.get("/v1/notes").json["items"] == []


@pytest.mark.real
def test_a_queue_that_is_sent_again_as_a_whole_is_done_once(ada: Person) -> None:
    ada.post("/v1/batch", {"on_error": "stop", "requests": queue("")})
    for _ in range(3):
        answer = ada.post("/v1/batch", {"on_error": "stop", "requests": queue("good")})
        assert [response["status"] for response in answer.json["responses"]] == [201, 201, 200]
    note = ada.get("/v1/notes/n1").json
    assert (note["priority"], note["revision"]) == (1, 2)


def test_by_itself_a_batch_goes_on_after_an_error(ada: Person) -> None:
    for more in ({}, {"on_error": "continue"}):
        parts = [part("GET", "/v1/notes/none"), part("GET", "/v1/notes")]
        responses = ada.post("/v1/batch", {"requests": parts, **more}).json["responses"]
        assert [response["status"] for response in responses] == [404, 200]
    assert ada.post("/v1/batch", {"requests": [], "on_error": "halt"}).status_code == 422


@pytest.mark.real
def test_what_nobody_is_let_in_with_is_told_by_its_own_request(ada: Person) -> None:
    parts = [
        {"method": "POST", "path": "/v1/accounts?unknown=1", "body": {"username": "eve", "password": PASSWORD}},
        {"method": "POST", "path": "/v1/accounts", "body": {"username": "eve", "password": PASSWORD}},
    ]
    answer = ada.post("/v1/batch", {"requests": parts, "atomic": True})
    assert [part["status"] for part in answer.json["responses"]] == [400, 424]
    assert answer.json["responses"][0]["body"]["code"] == "bad_parameter"
