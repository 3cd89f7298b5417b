"""Attacks on HTTP itself: smuggling, paths, methods and headers, at the real server (OWASP API8:2023, API9:2023)."""

import ast
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from flask import Flask

import service as service_package
from tests.client import Person, Phone
from tests.test_run import ADA, Running, running

JSON = b"Content-Type: application/json\r\n"
LOGIN = b'{"username": "ada", "password": "wrong"}'
HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CLOSE = b"Connection: close\r\n"  # without it, the end of an answer is half a second of silence


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of one worker, so that whatever kills it is seen, behind one proxy that it trusts."""
    options = {"RATELIMIT_ENABLED": "false", "TRUSTED_PROXIES": "1", "LOG_JSON": "true"}
    with running(tmp_path_factory.mktemp("var"), "--memory", **options) as found:
        assert found.send("POST", "/v1/accounts", ADA).status_code == 201
        yield found


def raw(service: Running, data: bytes, seconds: float = 2) -> bytes:
    """All that the server answers to bytes on one connection, until it closes it or says nothing more."""
    answer = b""
    with socket.create_connection(("127.0.0.1", service.port), timeout=seconds) as connection:
        connection.sendall(data)
        try:
            while piece := connection.recv(65536):
                answer += piece
                connection.settimeout(0.5)
        except (TimeoutError, ConnectionResetError):
            pass
    return answer


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


def request(line: bytes, headers: bytes = b"", body: bytes = b"") -> bytes:
    return line + b" HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n" + body


def login(headers: bytes, body: bytes) -> bytes:
    return request(b"POST /auth", JSON + headers, body)


def in_chunks(size: bytes, end: bytes = b"\r\n0\r\n\r\n") -> bytes:
    return login(CHUNKED, size + b"\r\n" + LOGIN + end)


SIZE = b"%x" % len(LOGIN)

# Smuggling (RFC 9112, section 11.2): two readers of one connection must not see different requests

SMUGGLED = {
    "a length and chunks": login(b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n"),
    "chunks and a length": login(CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n"),
    "two lengths": login(b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(HIDDEN), b""),
    "a list of lengths": login(b"Content-Length: 0, 0\r\n", b""),
    "a length with a sign": login(b"Content-Length: +0\r\n", b""),
    "a negative length": login(b"Content-Length: -1\r\n", b""),
    "a length in hexadecimal": login(b"Content-Length: 0x0\r\n", b""),
    "an unknown coding": login(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
    "a coding after chunks": login(b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"),
    "a space before the colon": login(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"),
    "chunks in HTTP/1.0": b"POST /auth HTTP/1.0\r\n" + JSON + CHUNKED + b"\r\n0\r\n\r\n",
    "a folded header": login(b"X-A: b\r\n Content-Length: 0\r\n", b""),
    "a bare CR in a header": login(b"X-A: b\rContent-Length: 0\r\n", b""),
    "a NUL in a header": login(b"X-A: b\0\r\n", b""),
    "a header without a name": login(b": 0\r\n", b""),
    "a chunk size that overflows": in_chunks(b"f" * 17),
    "a chunk size with a sign": in_chunks(b"+" + SIZE),
    "a chunk size of nothing": in_chunks(b""),
    "a bare LF after a chunk size": login(CHUNKED, SIZE + b"\n" + LOGIN + b"\n0\n\n"),
    "a bare LF in an extension": in_chunks(SIZE + b";a\nb"),
    "an endless extension": in_chunks(SIZE + b";" + b"a" * 100_000),
    "more than the chunk": in_chunks(SIZE, b"XX\r\n0\r\n\r\n"),
    "a space in the path": request(b"GET /health /live"),
    "a request line of HTTP/0.9": b"GET /health/live\r\n\r\n",
}


@pytest.mark.parametrize("name", SMUGGLED)
def test_no_second_request_hides_in_an_unclear_one(service: Running, name: str) -> None:
    answer = raw(service, SMUGGLED[name] + HIDDEN)
    assert len(statuses(answer)) == 1
    assert statuses(answer)[0] in (400, 401, 501)
    assert b"there is nothing at this path" not in answer


@pytest.mark.parametrize(
    "data",
    [
        in_chunks(SIZE),
        in_chunks(SIZE + b";name=value"),
        in_chunks(SIZE, b"\r\n0\r\nAuthorization: Bearer x\r\nContent-Length: 3\r\n\r\n"),
        login(b"Content-Length: %d\r\n" % len(LOGIN) * 2, LOGIN),
        request(b"GET /v1/notes", b"Content-Length: %d\r\n" % len(HIDDEN), HIDDEN),
        request(b"POST /v1/notes", JSON + b"Content-Length: %d\r\n" % len(HIDDEN), HIDDEN),
    ],
    ids=["chunks", "an extension", "trailers", "the same length twice", "a body of GET", "a body of a refused POST"],
)
def test_a_clear_body_ends_where_it_says(service: Running, data: bytes) -> None:
    assert statuses(raw(service, data + request(b"GET /health/live", CLOSE))) in ([401, 200], [401])


def test_a_trailer_is_no_header(service: Running) -> None:
    token = service.send("POST", "/auth", ADA).json()["access_token"].encode()
    trailer = b"0\r\nAuthorization: Bearer " + token + b"\r\n\r\n"
    assert statuses(raw(service, request(b"GET /v1/notes", CLOSE + CHUNKED, trailer))) == [401]


# Paths: one resource, one path, and none that leads out of the tree


PATHS = [
    *(b"/v1//notes", b"/v1/./notes", b"/v1/../v1/notes", b"/v1/%2e%2e/v1/notes", b"/v1/notes%00", b"/v1/notes;a=b"),
    *(b"/v1/notes.", b"/V1/notes", b"/v1/notes%20", b"/v1/notes%0a", b"/v1/notes%23x", b"/v1/notes%3flimit=1"),
    *(b"/v1/notes//", b"/v1/notes/x/y", b"/docs/../metrics", b"/docs/..%2f..%2frun.py", b"/docs/%2e%2e/%2e%2e/run.py"),
    *(b"/docs//etc/passwd", b"/docs/%2fetc%2fpasswd", b"/docs/..%5c..%5crun.py", b"/docs/swagger-ui.css%00.html"),
    *(b"/.env", b"/.git/config", b"/run.py", b"/static/x", b"/ADMIN", b"/admin/x", b"/debug", b"/console", b"*"),
    *(b"/v2/notes", b"/v1/sessions", b"/v1/events", b"/v1/kept_answers", b"/v1/account", b"/v1/accounts/ME"),
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_with_a_trick_leads_nowhere(service: Running, path: bytes) -> None:
    token = service.send("POST", "/auth", ADA).json()["access_token"].encode()
    answer = raw(service, request(b"GET " + path, CLOSE + b"Authorization: Bearer " + token + b"\r\n"))
    assert statuses(answer) == [404]
    assert b"root:" not in answer
    assert b"location:" not in answer.lower()


@pytest.mark.parametrize(
    "path", [b"/v1/notes", b"//v1/notes", b"/v1%2fnotes", b"/%761/n%6ftes", b"http://evil.example/v1/notes"]
)
def test_another_spelling_of_a_path_asks_for_the_same_token(service: Running, path: bytes) -> None:
    assert statuses(raw(service, request(b"GET " + path, CLOSE))) == [401]


@pytest.mark.parametrize("line", [b"GET /v1/notes/\xff", b"GET /" + b"a" * 70_000, b"GET /v1/notes?" + b"a" * 70_000])
def test_a_path_that_is_no_uri_is_refused(service: Running, line: bytes) -> None:
    assert statuses(raw(service, request(line, CLOSE)))[0] in (400, 401, 414, 431)
    assert service.lives()


@pytest.mark.parametrize(
    "host", [b"evil.example", b"a b<", b"x\r\nHost: evil.example", b"", b"[::", b"x:99999", b"a" * 5000]
)
def test_the_host_of_a_request_is_in_no_answer(service: Running, host: bytes) -> None:
    token = service.send("POST", "/auth", ADA).json()["access_token"].encode()
    bearer = CLOSE + b"Authorization: Bearer " + token + b"\r\n"
    forwarded = b"X-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: evil\r\nForwarded: host=evil.example\r\n"
    body = json.dumps({"title": "x"}).encode()
    headers = b"Host: " + host + b"\r\n" + bearer + forwarded + JSON + b"Content-Length: %d\r\n" % len(body)
    made = raw(service, b"POST /v1/notes HTTP/1.1\r\n" + headers + b"\r\n" + body)
    assert statuses(made) in ([201], [400])
    listed = raw(service, b"GET /v1/notes?limit=1 HTTP/1.1\r\nHost: " + host + b"\r\n" + bearer + forwarded + b"\r\n")
    assert b"evil" not in made + listed


# Methods


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_header_makes_another_method_of_a_request(ada: Person, method: str, header: str) -> None:
    note = ada.make_note()
    ada.send(method, f"/v1/notes/{note['id']}", headers={header: "DELETE"})
    assert ada.post(f"/v1/notes/{note['id']}?_method=DELETE", {"_method": "DELETE"}).status_code == 405
    assert ada.get(f"/v1/notes/{note['id']}").status_code == 200


@pytest.mark.parametrize("method", [b"TRACE", b"TRACK", b"CONNECT", b"PROPFIND", b"PURGE", b"FOO"])
def test_a_method_of_another_kind_does_nothing_without_a_token(service: Running, method: bytes) -> None:
    answer = raw(service, request(method + b" /v1/notes/x", CLOSE + b"Authorization: Bearer secret-of-mine\r\n"))
    assert statuses(answer)[0] in (401, 404, 405)
    assert b"secret-of-mine" not in answer


@pytest.mark.parametrize("method", [b"get", b"Get", b"patch", b"hEAD", b"x-y"])
def test_a_method_in_small_letters_is_refused(service: Running, method: bytes) -> None:
    answer = raw(service, request(method + b" /health/live", CLOSE))
    assert statuses(answer) == [400]
    assert b"a method is written in capitals" in answer


@pytest.mark.parametrize("method", ["patch", "Patch", "get", "head", "put", "delete", "post"])
def test_a_method_in_small_letters_reaches_nothing_that_looks_at_methods(
    app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """To the router it would be the other one, to what counts, keeps and admits it would not."""
    note = ada.make_note()
    with monkeypatch.context() as patched:
        patched.setattr(app, "wsgi_app", None)
        answer = ada.send(
            "PATCH",
            f"/v1/notes/{note['id']}",
            {"$inc": {"priority": 1}},
            headers={"Idempotency-Key": "k"},
            environ_overrides={"REQUEST_METHOD": method},
        )
    assert (answer.status_code, answer.json["code"]) == (400, "bad_request")
    assert ada.get(f"/v1/notes/{note['id']}").json["revision"] == 1


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket", b"TLS/1.2"])
def test_a_connection_is_not_turned_into_another_protocol(service: Running, upgrade: bytes) -> None:
    headers = (
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: " + upgrade + b"\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    )
    websocket = (
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: \xff\r\n"
    )
    for sent in (headers, headers + websocket):
        assert statuses(raw(service, request(b"GET /health/live", sent)))[0] in (200, 400)
    assert service.lives()


# Headers


@pytest.mark.parametrize(
    "value", [b"a\r\nX-Evil: 1", b"a%0d%0aX-Evil: 1", b"a\x0bX-Evil: 1", b"\xe5\x98\x8aX-Evil", b"a" * 65]
)
@pytest.mark.parametrize("header", [b"X-Request-ID", b"Idempotency-Key", b"If-Match", b"Origin", b"Accept"])
def test_no_header_of_an_answer_is_made_by_a_client(service: Running, header: bytes, value: bytes) -> None:
    answer = raw(service, request(b"GET /v1/notes", CLOSE + header + b": " + value + b"\r\n"))
    assert b"x-evil" not in answer.lower()
    assert b"a" * 65 not in answer


def test_two_tokens_are_none(service: Running) -> None:
    token = service.send("POST", "/auth", ADA).json()["access_token"].encode()
    good, bad = b"Authorization: Bearer " + token + b"\r\n", b"Authorization: Bearer x\r\n"
    assert [statuses(raw(service, request(b"GET /v1/notes", CLOSE + both))) for both in (good + bad, bad + good)] == [
        [401],
        [401],
    ]
    assert statuses(raw(service, request(b"GET /v1/notes", CLOSE + good))) == [200]


def test_a_header_with_underscores_passes_for_no_other(service: Running) -> None:
    """For WSGI the two names are one; the door lets only the one through that it knows."""
    body = json.dumps(ADA).encode()
    both = CLOSE + b"X-Forwarded-For: 192.0.2.1\r\nX_Forwarded_For: 198.51.100.1\r\n"
    for more in (b"", b"Accept: */*\r\n"):
        raw(service, login(both + b"Content-Length: %d\r\n" % len(body) + more, body))
    token = service.send("POST", "/auth", ADA).json()["access_token"]
    events = service.send("GET", "/v1/accounts/me/events", token=token).json()["items"]
    assert {event["address"] for event in events} == {"127.0.0.1", "192.0.2.1"}


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, identity", "x"])
def test_a_body_in_a_content_coding_is_not_unpacked(phone: Phone, coding: str) -> None:
    headers = {"Content-Encoding": coding, "Content-Type": "application/json"}
    for body in (LOGIN, b"\x1f\x8b\x08" + b"\0" * 100):
        assert phone.post("/auth", data=body, headers=headers).json["code"] == "unsupported_media_type"


def test_a_body_that_says_it_is_plain_is_read(phone: Phone) -> None:
    headers = {"Content-Encoding": "Identity", "Content-Type": "application/json"}
    assert phone.post("/auth", data=LOGIN, headers=headers).json["code"] == "bad_credentials"


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-7", "application/json; charset=utf-16"])
def test_json_is_utf_8_whatever_its_charset_says(ada: Person, content_type: str) -> None:
    sent = {"data": b'{"title": "+ADw-script+AD4-"}', "content_type": content_type}
    assert ada.post("/v1/notes", **sent).json["title"] == "+ADw-script+AD4-"


def test_the_last_of_several_members_counts_for_every_reader(ada: Person) -> None:
    twice = b'{"method": "DELETE", "path": "/v1/batch", "path": "/v1/notes", "method": "GET"}'
    sent = b'{"requests": [], "requests": [' + twice + b"]}"
    answer = ada.post("/v1/batch", data=sent, content_type="application/json")
    assert [part["status"] for part in answer.json["responses"]] == [200]
    hidden = b'{"requests": [{"method": "GET", "path": "/v1/notes", "path": "/v1/batch"}]}'
    assert ada.post("/v1/batch", data=hidden, content_type="application/json").status_code == 422


# Other origins


@pytest.mark.parametrize(
    "origin", ["null", "https://evil.example", "https://app.example.com.evil.example", "http://app.example.com"]
)
@pytest.mark.parametrize("method", ["DELETE", "TRACE", "FOO", "*"])
def test_a_page_of_another_origin_gets_no_leave(phone: Phone, origin: str, method: str) -> None:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization",
    }
    for answer in (phone.send("OPTIONS", "/v1/notes", headers=asked), phone.get("/v1/notes", headers=asked)):
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control-Allow")]


def test_no_answer_leads_to_another_site(app: Flask, ada: Person) -> None:
    for path in ("//evil.example/%2f..", "/https://evil.example", "/docs?next=//evil.example", "/docs//evil.example"):
        answer = ada.get(path)
        assert answer.status_code >= 400
        assert "Location" not in answer.headers


# Requests of our own: hardly any

ABROAD = {"urllib.request", "http.client", "requests", "httpx", "aiohttp", "urllib3", "smtplib", "ftplib", "dns"} | {
    "h2.connection"
}


ASKING = {
    (
        "outbox/calling.py",
        "http.client",
    ): "receivers that clients name, at addresses that are looked at: tests/test_targets.py",
    ("outbox/transports.py", "smtplib"): "the mail server of the settings",
    ("push/http2.py", "h2.connection"): "APNs and FCM, where the settings say that they are",
    ("identity/fetching.py", "http.client"): "the errors of the next",
    ("identity/fetching.py", "urllib.request"): "the issuers of the settings, for their keys and tokens",
}
"""Which modules import what asks other servers, and whom they ask: nobody whom a client can name."""


def test_no_module_can_ask_another_server() -> None:
    package = Path(service_package.__file__).parent
    imported = {
        (str(path.relative_to(package)), name)
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
    }
    assert ("app.py", "flask") in imported
    assert {found for found in imported if found[1] in ABROAD} == ASKING.keys()


def test_no_address_that_a_client_sends_is_asked(ada: Person, phone: Phone) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.5)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        for name in ("Referer", "Origin", "Host", "X-Forwarded-Host", "X-Original-URL", "X-Rewrite-URL", "Destination"):
            ada.get("/v1/notes", headers={name: url})
        for name in ("jku", "x5u"):
            token = jwt.encode({"sub": ada.id}, "k" * 32, headers={name: url, "kid": url})
            assert phone.get("/v1/notes", headers={"Authorization": f"Bearer {token}"}).status_code == 401
        note = ada.make_note(title=url, body=f"![]({url}) <img src={url}>", tags=[url[:40]], checklist=[{"text": url}])
        ada.patch(f"/v1/notes/{note['id']}", {"notebook": {"$ref": url}})
        ada.patch("/v1/accounts/me", {"display_name": url, "email": f"a@{url[7:-2]}"})
        ada.log_in(device=url)
        ada.find(where={"$ref": url}, expand=url)
        part = {"method": "GET", "path": url}
        assert ada.post("/v1/batch", {"requests": [part]}).status_code == 422
        ada.get(f"/docs?url={url}&configUrl={url}")
        with pytest.raises(TimeoutError):
            listener.accept()


# What a log line takes from a client


def test_no_client_writes_lines_or_colours_into_the_log(service: Running) -> None:
    before = len(service.said)
    evil = b"%0a{%22event%22:%22forged%22}%1b[31m"
    agent = CLOSE + b"User-Agent: forged\r\nReferer: forged\r\nX-Request-ID: forged{}\r\nX-Forwarded-For: forged\r\n"
    raw(service, request(b"GET /v1/notes/" + evil + b"?forged=" + evil, agent))
    name = json.dumps({"username": '\n{"event":"forged"}\x1b[31m', "password": "forged"}).encode()
    raw(service, login(agent + b"Content-Length: %d\r\n" % len(name), name))
    written = service.said[before:]
    assert written
    assert "forged" not in written
    assert all(json.loads(line)["event"] == "request" for line in written.splitlines())
