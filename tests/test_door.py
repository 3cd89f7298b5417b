"""The configuration of the door: made of the settings, and one that Caddy takes."""

import datetime
import json
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

import settings
from service.core.errors import ShuttingDown, Unavailable
from service.core.headers import FRESH
from service.serve import door
from service.serve.addresses import LOOPBACK, Address, answers, laid_out, read_address
from service.serve.failures import CannotStart
from service.serve.ports import free_port
from service.streams.session_ids import process_tag
from tests.conftest import ROOT
from tests.test_processes import running_door
from tests.test_run import ADA, environment, running
from tests.waiting import until

BACK = {"DOOR_API": '["10.0.0.2:8000"]', "DOOR_STREAMS": '["10.0.0.3:8000"]'}


def config(**named: str) -> dict[str, Any]:
    environ = {"SERVICE_ENV": "test", **{f"SERVICE_{name}": text for name, text in (BACK | named).items()}}
    return door.for_layout(settings.load(environ), {}, Address("127.0.0.1", 8443))


def server(**named: str) -> dict[str, Any]:
    found: dict[str, Any] = config(**named)["apps"]["http"]["servers"]["door"]
    return found


def caddy(*words: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(door.find_caddy()), *words], capture_output=True, text=True, timeout=60, check=False, **options
    )


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of our own for 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    moment = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - datetime.timedelta(days=1))
        .not_valid_after(moment + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(built.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"TRUSTED_PROXIES": "2"},
        {"DOOR_STREAMS": "[]"},
        {"DOOR_STREAMS": '["10.0.0.3:8000", "10.0.0.4:8000"]'},
        {"DOOR_HOST": "api.example.com"},
        {"DRAIN_DELAY": "5", "CLIENT_TIMEOUT": "0.5", "MAX_CONTENT_LENGTH": "999"},
    ],
    ids=str,
)
def test_caddy_takes_it(tmp_path: Path, named: dict[str, str]) -> None:
    path = tmp_path / "caddy.json"
    path.write_text(json.dumps(config(**named)))
    homes = {"XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}
    done = caddy("validate", "--config", str(path), env=homes)
    assert done.returncode == 0, done.stderr
    assert "Valid configuration" in done.stdout


def test_it_is_printed(tmp_path: Path) -> None:
    words = [sys.executable, "run.py", "--print-door", "--port", "8443"]
    environ = environment(tmp_path, ENV="test", **BACK)
    done = subprocess.run(words, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(done.stdout) == config()


def test_without_a_word_of_where_the_others_are_it_leads_to_a_start_without_a_door(tmp_path: Path) -> None:
    words = [sys.executable, "run.py", "--print-door", "--port", "8443"]
    done = subprocess.run(
        words, cwd=ROOT, env=environment(tmp_path, ENV="test"), capture_output=True, text=True, timeout=30, check=True
    )
    there = {"DOOR_API": ["127.0.0.1:8001"], "DOOR_STREAMS": ["127.0.0.1:8002"]}
    assert json.loads(done.stdout) == config(**{name: json.dumps(value) for name, value in there.items()})


def test_it_has_no_way_in_but_the_front_and_keeps_no_log() -> None:
    assert config()["admin"] == {"disabled": True, "config": {"persist": False}}
    assert "logs" not in server()
    assert server()["listen"] == ["127.0.0.1:8443"]


def test_proxies_are_believed_only_where_there_are_some() -> None:
    assert "trusted_proxies" not in server()
    assert server(TRUSTED_PROXIES="1")["trusted_proxies"]["ranges"] == ["0.0.0.0/0", "::/0"]


def test_with_a_host_name_it_speaks_https_alone() -> None:
    secure = server(DOOR_HOST="api.example.com")
    assert secure["protocols"] == ["h1", "h2", "h3"]
    assert secure["routes"][0]["match"] == [{"host": ["api.example.com"]}]
    assert config(DOOR_HOST="api.example.com")["apps"]["http"]["https_port"] == 8443
    assert "Strict-Transport-Security" in json.dumps(secure)
    assert "Strict-Transport-Security" not in json.dumps(server())


def test_a_certificate_of_ones_own_takes_the_place_of_one_that_is_fetched() -> None:
    own = {"DOOR_CERTIFICATE": "/etc/own.pem", "DOOR_CERTIFICATE_KEY": "/etc/own.key"}
    apps = config(DOOR_HOST="api.example.com", **own)["apps"]
    assert apps["tls"] == {"certificates": {"load_files": [{"certificate": "/etc/own.pem", "key": "/etc/own.key"}]}}
    assert "automation" in config(DOOR_HOST="api.example.com")["apps"]["tls"]


def test_what_it_says_itself_has_the_headers_of_every_answer() -> None:
    for problem in (ShuttingDown(), Unavailable()):
        headers = door.answering(problem)[-1]["handle"][-1]["headers"]
        assert {name: headers[name] for name, _ in FRESH} == {name: [text] for name, text in FRESH}
        assert headers["Retry-After"] == ["1"]


def test_without_an_api_it_says_what_is_missing() -> None:
    with pytest.raises(CannotStart, match="SERVICE_DOOR_API"):
        config(DOOR_API="[]")


@given(st.integers(1, 10**9), st.integers(0, 10**10))
def test_a_length_above_the_limit_is_told_from_one_within(limit: int, length: int) -> None:
    assert bool(re.fullmatch(door.above(limit), str(length))) == (length > limit)


LONG = [
    "/v1/live",
    "/v1/files/x/content",
    "/v1/uploads",
    "/socket.io/",
    "/v1/sync/rxdb/notes/0/pullStream",
    "/v1/changes?wait=25",
    "/v1/changes/?cursor=x&%77ait=",
]
SHORT = [
    "/v1/live/tickets",
    "/v1/changes",
    "/v1/changes?await=1",
    "/v1/notes?wait=1",
    "/v1/lively",
    "/v1/notes",
    "/v1/notes/files",
    "/v1/files",
    "/v1/files/x",
    "/v1/sync/watermelondb",
    "/auth",
    "/v1/notes/x/filesystem",
]


@pytest.mark.real
@pytest.mark.parametrize("path", [*LONG, *SHORT])
def test_what_is_long_goes_to_the_streams(two_ends: tuple[str, list[str]], path: str) -> None:
    base, names = two_ends
    wanted = "api" if path in SHORT else "streams"
    assert requests.get(base + path, timeout=10).text == wanted
    assert names


@contextmanager
def listening(says: str, at: Mapping[int, str]) -> Iterator[None]:
    """Servers at some ports that answer what a Python expression `says` of `self` and `name`, each with its name."""
    script = f"""
import http.server, sys
name = sys.argv[2]

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write({says}.encode())

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(port), name], stderr=subprocess.DEVNULL)
        for port, name in at.items()
    ]
    try:
        # For one that does not listen yet the door has an empty page.
        assert until(lambda: all(answers(Address(LOOPBACK, port)) for port in at))
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def two_ends(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A door before two servers that say who they are."""
    ends = {free_port(): name for name in ("api", "streams")}
    named = {f"DOOR_{name.upper()}": f'["127.0.0.1:{port}"]' for port, name in ends.items()}
    with listening("name", ends), running_door(tmp_path_factory.mktemp("door"), **named) as base:
        assert until(lambda: requests.get(f"{base}/v1/live", timeout=10).status_code == 200)
        yield base, [*ends.values()]


@pytest.mark.real
def test_before_several_streams_a_session_of_socket_io_finds_its_own(tmp_path: Path) -> None:
    ports = [free_port() for _ in range(3)]
    streams = [f"127.0.0.1:{port}" for port in ports]
    named = {"DOOR_API": '["127.0.0.1:1"]', "DOOR_STREAMS": json.dumps(streams)}
    says = "' '.join([name, self.headers['X-Streams-Address']])"
    with listening(says, {port: str(port) for port in ports}), running_door(tmp_path, **named) as base:

        def asked(path: str) -> list[str]:
            headers = {"X-Streams-Address": "of the client"}
            return requests.get(base + path, headers=headers, timeout=10).text.split(" ", 1)

        opened: dict[str, str] = {}
        assert until(lambda: opened.update([asked("/socket.io/?EIO=4")]) or len(opened) == 3)
        assert sorted(opened.values()) == sorted(streams)
        for port, address in opened.items():
            for path in ("/socket.io/", "/socket.io"):
                found = {asked(f"{path}?EIO=4&sid={process_tag(address)}abc&t={number}")[0] for number in range(6)}
                assert found == {port}
        assert until(lambda: asked("/socket.io/?sid=of-nobody")[0] in opened)


@pytest.mark.real
def test_with_a_certificate_it_speaks_https(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    port = free_port()
    named = {"DOOR_CERTIFICATE": str(cert), "DOOR_CERTIFICATE_KEY": str(key)}
    context = ssl.create_default_context(cafile=str(cert))
    context.set_alpn_protocols(["h2", "http/1.1"])

    def shakes_hands() -> str | None:
        try:
            with (
                socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as secure,
            ):
                return secure.selected_alpn_protocol()
        except OSError:
            return None

    with started(tmp_path, "--memory", port=port, **named) as output:
        assert until(shakes_hands, 30) == "h2"
        base = f"https://localhost:{port}"
        with requests.Session() as session:
            session.verify, session.trust_env = str(cert), False
            assert until(lambda: session.get(f"{base}/health/live", timeout=10).status_code == 200)
            answer = session.post(f"{base}/v1/accounts", json=ADA, timeout=10)
            assert answer.status_code == 201
            assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert requests.get(f"http://127.0.0.1:{port}/health/live", timeout=5).status_code == 400
        assert until(lambda: f"https://127.0.0.1:{port}" in output.read_text())


@contextmanager
def started(var: Path, *options: str, port: int, **named: str) -> Iterator[Path]:
    """A service that need not answer plain HTTP; yields the file of what it says."""
    words = [sys.executable, "run.py", "--port", str(port), *options]
    with (var / "output").open("wb") as out:
        process = subprocess.Popen(words, cwd=ROOT, env=environment(var, **named), stdout=out, stderr=out)
    try:
        yield var / "output"
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_an_address_is_written_and_read() -> None:
    for address in (Address("127.0.0.1", 80), Address("::1", 8000), Address("api", 1)):
        assert read_address(str(address)) == address


def test_a_port_that_is_taken_names_a_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotStart, match=r'make serve ARGS="--port \d+"'):
            laid_out(["door", "api"], "127.0.0.1", port)


def test_ports_behind_the_door_are_kept_free() -> None:
    layout = laid_out(["door", "api", "streams"], "127.0.0.1", free_port())
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError):
            other.bind(layout.of["api"])
    for taken in layout.reserved:
        taken.close()


@pytest.mark.parametrize(("said", "found"), [("v2.11.7 h1:x", (2, 11, 7)), ("v2.6.2", (2, 6, 2)), ("nonsense", ())])
def test_the_version_of_a_caddy_is_read(tmp_path: Path, said: str, found: tuple[int, ...]) -> None:
    program = tmp_path / "caddy"
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    assert door.version(str(program)) == found


def test_an_old_caddy_on_the_path_is_passed_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "caddy"
    program.write_text("#!/bin/sh\necho v2.6.2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert door.find_caddy() == Path(sys.executable).parent / "caddy"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere" / "python"))
    with pytest.raises(CannotStart, match=r"is older than 2\.11\.7"):
        door.find_caddy()
    program.write_text("#!/bin/sh\necho v2.12.0\n")
    assert door.find_caddy() == program


@pytest.mark.real
def test_requests_through_the_door_keep_their_query_and_method(tmp_path: Path) -> None:
    with running(tmp_path, "--memory") as service:
        assert service.send("GET", "/health/live?unknown=1").json()["errors"][0]["parameter"] == "unknown"
        assert service.send("HEAD", "/health/live").status_code == 200
        assert service.send("OPTIONS", "/v1/notes").status_code in (200, 204, 401, 405)
