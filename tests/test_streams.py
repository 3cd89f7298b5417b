"""The streams, called as an ASGI server does."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import settings
from service.core import errors
from service.core.headers import FRESH
from service.core.log import Lines
from service.mongo import connection
from service.streams.app import Streams
from service.streams.exchange import ClientGone, Request, Response
from service.streams.readiness import Readiness
from service.streams.router import Route, Router
from service.streams.transfers import hear_out
from tests.streaming import Sent, Served, scope, served
from tests.types import REGISTRY

SETTINGS = settings.load({"SERVICE_ENV": "test", "SERVICE_MONGODB_URI": connection.MEMORY})


def ask(app: Streams, method: str, path: str, **headers: str) -> Sent:
    messages: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        messages.append(message)

    asyncio.run(app(scope(method, path, **headers), receive, send))
    return Sent(messages)


@pytest.fixture
def app() -> Streams:
    return opened({})


def opened(others: dict[str, Any], is_draining: Callable[[], bool] = lambda: False, **changed: Any) -> Streams:
    app = made({**SETTINGS, **changed}, is_draining, others)
    asyncio.run(opened_in_a_loop(app))
    return app


async def opened_in_a_loop(app: Streams) -> None:
    app.open()


def made(config: dict[str, Any], is_draining: Callable[[], bool] = lambda: False, others: Any = None) -> Streams:
    return Streams(config, REGISTRY, is_draining, others or {}, Lines(config))


def test_it_tells_that_it_lives(app: Streams) -> None:
    sent = ask(app, "GET", "/health/live")
    assert (sent.status, sent.json, sent.ended) == (200, {"status": "ok"}, True)
    assert {name: sent.headers[name.lower()] for name, _ in FRESH} == dict(FRESH)
    assert sent.headers["content-length"] == str(len(sent.body))


def test_head_has_the_headers_of_get_and_no_body(app: Streams) -> None:
    sent = ask(app, "HEAD", "/health/live")
    assert (sent.status, sent.body, sent.headers["content-length"]) == (200, b"", "15")


@pytest.mark.parametrize(("named", "kept"), [("mine.1", True), ("no{}", False), ("", False)])
def test_a_request_keeps_its_own_name(app: Streams, named: str, kept: bool) -> None:
    sent = ask(app, "GET", "/nothing", x_request_id=named)
    assert (sent.status, sent.json["code"]) == (404, "not_found")
    assert (sent.headers["x-request-id"] == named) is kept
    assert sent.json["request_id"] == sent.headers["x-request-id"]


def test_another_method_is_told_which_there_are(app: Streams) -> None:
    sent = ask(app, "POST", "/health/live")
    assert (sent.status, sent.json["code"], sent.headers["allow"]) == (405, "method_not_allowed", "GET, HEAD, OPTIONS")


def test_a_method_in_small_letters_is_told(app: Streams) -> None:
    sent = ask(app, "get", "/health/live")
    assert (sent.status, sent.json["detail"]) == (400, "a method is written in capitals")


def test_of_a_path_with_nothing_there_are_no_methods(app: Streams) -> None:
    assert ask(app, "OPTIONS", "/nothing").status == 404
    assert ask(app, "OPTIONS", "/health/live").status == 200


@pytest.mark.parametrize("path", ["/v1/live", "/v1/changes", "/v1/sync/rxdb/notes/0/pullStream"])
def test_without_a_real_mongodb_there_is_nothing_to_follow(app: Streams, path: str) -> None:
    sent = ask(app, "GET", path)
    assert (sent.status, sent.json["code"]) == (501, "not_supported")


@pytest.mark.real
def test_when_all_is_well_each_part_says_so(streams: Served) -> None:
    sent = streams.ask("GET", "/health/all")
    assert (sent.status, sent.json) == (200, {"status": "ok", "parts": {"streams": "ok"}})


def test_an_error_of_ours_shows_nothing(app: Streams, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    async def broken(_request: Request) -> Response:
        raise ZeroDivisionError("secret")

    app.router = Router([Route("GET", "/broken", broken)])
    sent = ask(app, "GET", "/broken")
    assert (sent.status, sent.json["code"]) == (500, "internal_error")
    assert b"secret" not in sent.body
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_while_it_drains_it_is_not_ready_and_asks_to_go(app: Streams) -> None:
    draining = opened({}, lambda: True)
    sent = ask(draining, "GET", "/health/ready")
    assert (sent.status, sent.json["code"], sent.headers["connection"]) == (503, "shutting_down", "close")
    assert ask(draining, "GET", "/health/all").json["parts"] == {"streams": "shutting_down"}
    assert "connection" not in ask(app, "GET", "/health/ready").headers


def test_without_mongodb_it_is_not_ready() -> None:
    async def state() -> str:
        async with connection.async_client({**SETTINGS, "MONGODB_URI": "mongodb://127.0.0.1:9/x", **LATE}) as database:
            return await Readiness(database, 0.3, lambda: False, {}).state()

    assert asyncio.run(state()) == "database_unavailable"


LATE = {"MONGODB_TIMEOUT": 0.3, "MONGODB_POOL_SIZE": 2, "MONGODB_CONNECT_TIMEOUT": 0.3}


def test_a_secondary_is_not_ready() -> None:
    class Secondary:
        class admin:  # noqa: N801
            @staticmethod
            async def command(_: str) -> dict[str, bool]:
                return {"isWritablePrimary": False}

    ready = Readiness(Secondary(), 1.0, lambda: False, {})  # type: ignore[arg-type]
    with pytest.raises(errors.DatabaseUnavailable):
        asyncio.run(ready.check())


async def answering(status: bytes) -> tuple[asyncio.Server, int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(status)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, int(server.sockets[0].getsockname()[1])


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        ([b"HTTP/1.1 200 OK\r\n\r\n"], "ok"),
        ([b"HTTP/1.1 503 Service Unavailable\r\n\r\n"], "answers 503"),
        ([b""], "answers 0"),
        ([b"nonsense nonsense\r\n"], "no answer"),
        ([b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"], "ok"),
        ([], "no address"),
    ],
)
def test_what_other_programs_say_is_asked(lines: list[bytes], state: str) -> None:
    async def ask_all() -> str:
        servers = [await answering(line) for line in lines]
        ready = Readiness(None, 1.0, lambda: False, {})
        try:
            return await ready.ask([("127.0.0.1", port) for _, port in servers])
        finally:
            for server, _ in servers:
                server.close()

    assert asyncio.run(ask_all()) == state


def test_a_path_gives_its_pieces() -> None:
    async def handler(_request: Request) -> Response:
        return Response(204)

    router = Router([Route("GET", "/v1/files/<id>/content", handler), Route("PATCH", "/v1/uploads/<id>", handler)])
    route, arguments = router.find("HEAD", "/v1/files/a.b/content/")
    assert (route.handler, arguments) == (handler, {"id": "a.b"})
    for path in ("/v1/files/a/b/content", "/v1/files//content", "/v1/filesXa/content"):
        with pytest.raises(errors.NotFound):
            router.find("GET", path)
    with pytest.raises(errors.MethodNotAllowed):
        router.find("GET", "/v1/uploads/x")


def test_a_body_comes_piece_by_piece_and_a_broken_one_is_told() -> None:
    pieces = [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.request", "body": b"", "more_body": True},
        {"type": "http.request", "body": b"b"},
    ]

    async def read(messages: list[dict[str, Any]]) -> list[bytes]:
        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        return [piece async for piece in Request(scope("POST", "/"), receive).body()]

    assert asyncio.run(read(pieces)) == [b"a", b"b"]
    with pytest.raises(ClientGone):
        asyncio.run(read([{"type": "http.request", "body": b"a", "more_body": True}, {"type": "http.disconnect"}]))


def test_headers_that_come_twice_are_joined() -> None:
    twice = {**scope("GET", "/"), "headers": [(b"accept", b"a"), (b"accept", b"b")]}
    assert Request(twice, None).headers == {"accept": "a, b"}  # type: ignore[arg-type]


def test_an_answer_may_come_piece_by_piece(app: Streams) -> None:
    async def pieces() -> Any:
        yield b"a"
        yield b"b"

    async def handler(_request: Request) -> Response:
        return Response(200, pieces(), (("Content-Type", "text/plain"), ("Cache-Control", "private")))

    app.router = Router([Route("GET", "/", handler)])
    sent = ask(app, "GET", "/")
    assert (sent.body, sent.ended, sent.headers["cache-control"]) == (b"ab", True, "private")
    assert "content-length" not in sent.headers


def test_it_opens_and_closes_with_its_server() -> None:
    with served(made({**SETTINGS, "MONGODB_URI": "mongodb://127.0.0.1:9/x", **LATE})) as streams:
        assert streams.ask("GET", "/health/live").status == 200
        assert streams.ask("GET", "/health/ready").json["code"] == "database_unavailable"
    assert streams.said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize("path", ["/socket.io/", "/v1/live"])
def test_without_a_real_database_a_websocket_is_closed(app: Streams, path: str) -> None:
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        said.append(message)

    asyncio.run(app({**scope("GET", path), "type": "websocket"}, receive, send))
    assert said == [{"type": "websocket.close", "code": 1000}]


def test_without_a_real_database_there_is_no_polling(app: Streams) -> None:
    for method in ("GET", "POST"):
        sent = ask(app, method, "/socket.io/")
        assert (sent.status, sent.json["code"]) == (501, "not_supported")


# What is refused


@pytest.mark.parametrize(("sends", "read"), [(3, 3), (1000, 11)])
def test_a_body_that_is_refused_is_heard_out_as_far_as_it_may_be_large(sends: int, read: int) -> None:
    came = 0

    async def receive() -> dict[str, Any]:
        nonlocal came
        came += 1
        return {"type": "http.request", "body": bytes(100), "more_body": came < sends}

    request = Request(scope("POST", "/v1/files", content_length="100000"), receive)
    asyncio.run(hear_out(request, 5, 1000))
    assert came == read
    assert request.has_come == (sends == read)
    asyncio.run(hear_out(waiting := Request(scope("POST", "/v1/files", expect="100-continue"), receive), 5, 1000))
    assert not waiting.is_coming
