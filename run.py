"""Start Madang: find or start a MongoDB, read the settings of the environment, serve."""

import argparse
import gc
import os
import resource
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
from flask import Flask
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from pymongo.errors import ConfigurationError, PyMongoError

import settings
from service import app as application
from service.http.admission import Admission, threads
from service.identity import deletion
from service.model.registry import Registry
from service.mongo import connection
from service.serve import heap, mongod, replica_set
from service.serve.serving import Draining, DrainingServer, Farewell, end_on_signals, wake_for_signals
from service.upkeep import backup, indexes, upgrade

DESCRIPTION = "Start Madang. Settings come from SERVICE_* environment variables: see docs/settings.md."
DRAIN_SECONDS = 10
"""How long a worker may take to end the requests that it has begun."""
HEADERS_BYTES = 64 * 1024
"""Most bytes of a request line with its headers, and of the buffers of a connection."""
FILES = 512
"""Open files that are no connections of clients: those to MongoDB, logs, metrics."""
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
MEMORY_WARNING = "!! --memory: everything is kept in memory by mongomock and LOST when the service stops"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="run.py", description=DESCRIPTION)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=number(1, 65535), default=8000, help="port to listen on (%(default)s)")
    parser.add_argument("--workers", type=number(1, 256), help="processes; as many as there are cores")
    parser.add_argument(
        "--threads", type=number(1, 256), default=16, help="requests that one process answers at once (%(default)s)"
    )
    parser.add_argument("--memory", action="store_true", help="no MongoDB: keep data in memory and lose it at the end")
    parser.add_argument("--reload", action="store_true", help="restart when a file of the service changes")
    return parser.parse_args(argv)


def number(least: int, most: int) -> Callable[[str], int]:
    """Return what reads a whole number between two bounds from the command line."""

    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return read


def create_app() -> Flask:
    """Return the application for the settings of the environment: what the `flask` command loads.

    Raises `click.ClickException`, which that command shows without a trace, where there is none.
    """
    try:
        return made_app()
    except (settings.SettingsError, TypeError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def made_app() -> Flask:
    """Return the application for the settings of the environment.

    Without a MongoDB named, it joins the one that `run.py` has started. Raises `SettingsError` when there is none.
    """
    environ = dict(os.environ)
    loaded = settings.load(environ)
    if not loaded["MONGODB_URI"]:
        loaded["MONGODB_URI"] = mongod.running_uri(data_folder(loaded))
    if not loaded["MONGODB_URI"]:
        raise settings.SettingsError("no MongoDB: start the service first (`make serve`), or set SERVICE_MONGODB_URI")
    if not loaded["JWT_SECRET_KEY"]:
        loaded["JWT_SECRET_KEY"] = local_secret(loaded)
    return application.create_app(loaded)


def load_worker(draining: Draining, slots: int, port: int) -> Flask:
    """Return the application for a worker that has just been started: so many requests at once, on a port."""
    # Until Granian listens to signals, this process has its parent's way with them, and would not end.
    end_on_signals()
    wake_for_signals()
    app = create_serving_app()
    app.extensions["madang.draining"] = draining
    admitted = Admission(app.wsgi_app, slots, app.config)
    admitted.watch.start(port)
    app.wsgi_app = Farewell(admitted, draining)  # type: ignore[method-assign]
    return app


def create_serving_app() -> Flask:
    """Return the application that a worker serves, and do beside it what does not wait for a request."""
    app = made_app()
    deletion.keep_sweeping(app.extensions["madang.registry"], app.config["MONGODB_TIMEOUT"])
    connection.tell_driver()
    connection.keep_counting()
    # What is here now stays for good: without this, looking through it again and again is a fifth of a request.
    gc.collect()
    gc.freeze()
    # What a request makes is gone without the collector; a page of a list alone would start it three times.
    gc.set_threshold(20_000)
    threading.Thread(target=end_with, args=[os.getppid()], name="parent", daemon=True).start()
    return app


def end_with(parent: int) -> None:
    """End this worker when the process that started it is gone: nobody else would, and it would keep the port."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(DRAIN_SECONDS)
    os._exit(1)


def data_folder(loaded: Mapping[str, Any]) -> Path:
    """Return where the local MongoDB keeps its data."""
    return Path(loaded["VAR"]) / "mongodb"


def local_secret(loaded: Mapping[str, Any]) -> str:
    """Return the secret of this machine, made at the first start and readable by its owner alone."""
    path = Path(loaded["VAR"]) / "secret"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
    except FileExistsError:
        pass
    return path.read_text()


@contextmanager
def mongodb(memory: bool, loaded: Mapping[str, Any], environ: MutableMapping[str, str]) -> Iterator[str]:
    """Let the workers find a MongoDB, one of our own if none is named, and say where the data is."""
    if memory:
        print(MEMORY_WARNING, file=sys.stderr)
        environ["SERVICE_MONGODB_URI"] = connection.MEMORY
        yield "in memory, lost at the end"
    elif loaded["MONGODB_URI"]:
        yield "in the MongoDB that SERVICE_MONGODB_URI names"
    else:
        with mongod.LocalServer.start(data_folder(loaded)) as server:
            environ["SERVICE_MONGODB_URI"] = server.uri
            yield f"{server.data} (mongod {server.pid}, {server.uri})"


@contextmanager
def shared_metrics(workers: int, loaded: Mapping[str, Any]) -> Iterator[None]:
    """Give several workers a folder in which they add up their metrics.

    prometheus-client looks for it when it is imported, so this process starts once more with the folder named.
    """
    folder = Path(loaded["VAR"]).resolve() / f"metrics-{os.getpid()}"
    if workers > 1 and os.environ.get(METRICS_FOLDER) != str(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        os.environ[METRICS_FOLDER] = str(folder)
        os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606  the same program with the same arguments
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def prepare_database() -> list[str]:
    """Make the missing indexes, or refuse to start without them where a person makes them; say what is left to do.

    Raises `SettingsError` with the names of those that are missing, where MongoDB would acknowledge a write that can
    get lost, or where a restore did not come to its end.
    """
    app = made_app()
    registry: Registry = app.extensions["madang.registry"]
    with app.app_context():
        refuse_weak_writes()
        if backup.is_unfinished():
            raise settings.SettingsError("a restore was cut short: run `flask restore FILE` again")
        upgrade.mark_empty(registry)
        if app.config["CREATE_INDEXES"]:
            # One that is there but different serves the servers of the old version, which may still run.
            indexes.make(registry, "missing")
        elif missing := [str(change) for change in indexes.changes(registry) if change.kind == "missing"]:
            raise settings.SettingsError("run `flask indexes make`; these are missing:\n" + "\n".join(missing))
        notes = [*upgrade.advice(registry), *indexes.advice(registry)]
    # The workers are forked from this process, and a connection belongs to one process.
    connection.disconnect()
    return notes


def refuse_weak_writes() -> None:
    """Raise `SettingsError` where MongoDB acknowledges a write that can get lost: before a majority has it."""
    default = connection.default_write_concern()
    if default is None:
        print("This user of MongoDB may not see its default write concern. It has to be a majority.", file=sys.stderr)
    elif default != "majority":
        raise settings.SettingsError(
            f"MongoDB acknowledges a write when {default} of its members has it, so it can get lost. Run there:\n"
            'db.adminCommand({setDefaultRWConcern: 1, defaultWriteConcern: {w: "majority"}})'
        )


def refuse_taken_port(host: str, port: int) -> None:
    """Raise `OSError` when another server has the port: the kernel would share the requests out between the two."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def announce(options: argparse.Namespace, environment: str, data: str, workers: int) -> None:
    """Say where everything is and what to try."""
    base = f"http://{options.host}:{options.port}"
    print(
        f"Madang is at {base} — settings: {environment}, {workers} worker(s)\n"
        f"  API   {base}/v1    docs  {base}/docs    health  {base}/health/ready\n"
        f"  data  {data}\n"
        f"  try   curl {base}/v1/accounts -H 'Content-Type: application/json' "
        """-d '{"username": "ada", "password": "a long pass phrase"}'""",
        flush=True,
    )


def allow_connections(wanted: int) -> int:
    """Let this process and its workers open the files that so many connections need; return how many there may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted + FILES if hard == resource.RLIM_INFINITY else min(wanted + FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return max(1, limit - FILES)


def serve(options: argparse.Namespace, workers: int, loaded: Mapping[str, Any]) -> None:
    """Serve until a signal comes, and `DRAIN_DELAY` seconds longer."""
    draining = Draining()
    DrainingServer(
        "run",
        interface=Interfaces.WSGI,
        address=options.host,
        port=options.port,
        workers=workers,
        blocking_threads=threads(options.threads),
        backpressure=loaded["MAX_CONNECTIONS"],
        # A connection that may turn out to be HTTP/2 is waited for without a limit, and has many requests at once.
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(
            header_read_timeout=int(loaded["IDLE_TIMEOUT"] * 1000), max_buffer_size=HEADERS_BYTES
        ),
        workers_kill_timeout=DRAIN_SECONDS,
        log_level=LogLevels.error,
        reload=options.reload,
        reload_ignore_dirs=["var", ".venv", "tests", "docs"] if options.reload else None,
        websockets=False,
        draining=draining,
        drain_delay=loaded["DRAIN_DELAY"],
    ).serve(target_loader=partial(load_worker, draining, options.threads, options.port), wrap_loader=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Start the service; return the exit code."""
    options = arguments(argv)
    heap.limit()
    # What was begun is ended in order when a signal comes before Granian listens to it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        loaded = settings.load(os.environ)
        refuse_taken_port(options.host, options.port)
        workers = 1 if options.memory else options.workers or len(os.sched_getaffinity(0))
        with shared_metrics(workers, loaded), mongodb(options.memory, loaded, os.environ) as data:
            notes = prepare_database()
            announce(options, loaded["ENVIRONMENT"], data, workers)
            wanted = loaded["MAX_CONNECTIONS"]
            loaded["MAX_CONNECTIONS"] = allow_connections(wanted)
            if loaded["MAX_CONNECTIONS"] < wanted:
                notes.append(f"the limit of open files leaves {loaded['MAX_CONNECTIONS']} connections to each worker")
            for note in notes:
                print(f"  !!    {note}", flush=True)
            serve(options, workers, loaded)
    except (settings.SettingsError, replica_set.MongodError, TypeError, ValueError) as error:
        print(f"Madang does not start: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"Madang does not start: {options.host}:{options.port}: {error.strerror or error}", file=sys.stderr)
        return 2
    except ConfigurationError as error:
        print(f"Madang does not start: SERVICE_MONGODB_URI: {error}", file=sys.stderr)
        return 2
    except PyMongoError as error:
        print(f"Madang does not start: MongoDB does not answer: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
