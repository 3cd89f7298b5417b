"""Start Madang: find or start a MongoDB, read the settings of the environment, serve."""

import argparse
import json
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import settings
from service.serve import counters, heap
from service.serve.addresses import API, DOOR, LOOPBACK, PROGRAMS, STREAMS, WORKER, Address, laid_in_a_row
from service.serve.failures import CANNOT_START, CannotStart
from service.serve.launcher import database, launch
from service.serve.signals import Signals
from service.serve.start import Start

if TYPE_CHECKING:
    from flask import Flask

BEHIND = laid_in_a_row((API, STREAMS), LOOPBACK, 8001)
"""Where `--no-door --port 8001` starts what the door leads to."""
DESCRIPTION = "Start Madang. Settings come from SERVICE_* environment variables: see docs/settings.md."


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="run.py", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=number(1, 65535), default=8000, help="port to listen on (%(default)s)")
    parser.add_argument("--workers", type=number(1, 256), help="processes of the API; as many as there are cores")
    parser.add_argument(
        "--threads", type=number(1, 256), default=16, help="requests that one process answers at once (%(default)s)"
    )
    parser.add_argument("--only", type=programs, help=f"start these programs alone: {','.join(PROGRAMS)}")
    parser.add_argument("--no-door", action="store_true", help="start no Caddy: API and streams have a port each")
    parser.add_argument("--print-door", action="store_true", help="print the configuration of Caddy, and end")
    parser.add_argument("--memory", action="store_true", help="no MongoDB: keep data in memory and lose it at the end")
    parser.add_argument("--reload", action="store_true", help="start again when a file of the service changes")
    options = parser.parse_args(argv)
    options.names = chosen(parser, options)
    return options


def number(least: int, most: int) -> Callable[[str], int]:
    """Return what reads a whole number between two bounds from the command line."""

    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return read


def programs(text: str) -> list[str]:
    """Read names of programs from the command line; return them in the order of `PROGRAMS`."""
    named = text.split(",")
    if unknown := [name for name in named if name not in PROGRAMS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(PROGRAMS)}")
    return [name for name in PROGRAMS if name in named]


def chosen(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[str]:
    """Return the programs to start; ends with a message where that makes no sense."""
    if options.memory and WORKER in (options.only or ()):
        parser.error("--memory: only the API's process sees the data, and it does the worker's chores itself")
    if options.no_door and DOOR in (options.only or ()):
        parser.error("--no-door and --only door contradict each other")
    left_out = {DOOR} if options.no_door else set()
    left_out |= {WORKER} if options.memory else set()
    return [name for name in options.only or PROGRAMS if name not in left_out]


def create_app() -> "Flask":
    """Return the application for the settings of the environment: what the `flask` command loads.

    Without a MongoDB named, it joins the one that `run.py` has started. Raises `click.ClickException`, which that
    command shows without a trace, where there is none.
    """
    from service.serve import mongod
    from service.serve.imports import mistake_in_document

    try:
        from service import app as application
    except Exception as error:
        raise (click.ClickException(said) if (said := mistake_in_document(error)) else error) from None
    try:
        loaded = load()
        loaded["MONGODB_URI"] = loaded["MONGODB_URI"] or mongod.running_uri(Path(loaded["VAR"]) / "mongodb")
        if not loaded["MONGODB_URI"]:
            raise settings.SettingsError(
                "no MongoDB: start the service first (`make serve`), or set SERVICE_MONGODB_URI"
            )
        return application.create_app(loaded)
    except (TypeError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def load() -> dict[str, Any]:
    """Return the settings of the environment, with a secret of this machine where none is named."""
    loaded = settings.load(os.environ)
    if not loaded["JWT_SECRET_KEY"]:
        loaded["JWT_SECRET_KEY"] = local_secret(loaded)
    return loaded


def local_secret(loaded: Mapping[str, Any]) -> str:
    """Return the secret of this machine, made at the first start and readable by its owner alone.

    Raises `SettingsError` for a file with nothing in it, as a start that was cut off may leave it.
    """
    path = Path(loaded["VAR"]) / "secret"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
    except FileExistsError:
        pass
    secret = path.read_text()
    if not secret.strip():
        raise settings.SettingsError(f"{path} is empty; remove it, and the next start makes a new secret")
    return secret


def print_door(options: argparse.Namespace) -> int:
    """Print the configuration of the door: before the programs that the settings name, else those of `BEHIND`."""
    from service.serve import door

    loaded = settings.load(os.environ)
    behind = {} if loaded["DOOR_API"] else BEHIND
    config = door.for_layout(loaded, behind, Address(options.host, options.port))
    print(json.dumps(config, indent=2))
    return 0


def serve_anew(words: Sequence[str], signals: Signals) -> int:
    """Serve with `words` as arguments, and again whenever a file changes; the local MongoDB runs on meanwhile."""
    from service.core.log import configure_log
    from service.serve import reloading

    loaded = settings.load(os.environ)
    configure_log(loaded)
    root = Path(__file__).parent
    with database(loaded, "--memory" in words) as found:
        environ = {**os.environ, **({"SERVICE_MONGODB_URI": found.uri} if found.server else {})}
        command = [sys.executable, __file__, *words]
        return reloading.keep_new(command, root, environ, found.server, signals, say)


def serve(options: argparse.Namespace, signals: Signals) -> int:
    """Serve until a signal comes; return the exit code."""
    loaded = load()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with counters.shared(Path(loaded["VAR"])):
        workers = 1 if options.memory else options.workers or cores
        start = Start(options.names, options.host, options.port, workers, options.threads)
        return launch(start, loaded, options.memory, signals, say)


def say(text: str) -> None:
    """Show lines to the person at the terminal."""
    print(text, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Start the service; return the exit code."""
    words = sys.argv[1:] if argv is None else argv
    options = arguments(words)
    heap.limit()
    try:
        if options.print_door:
            return print_door(options)
        with Signals() as signals:
            if options.reload:
                return serve_anew([word for word in words if word != "--reload"], signals)
            return serve(options, signals)
    except CannotStart as error:
        print(f"Madang does not start: {error}", file=sys.stderr)
        return error.code
    except settings.SettingsError as error:
        print(f"Madang does not start: {error}", file=sys.stderr)
    except OSError as error:
        print(f"Madang does not start: {error.filename or options.host}: {error.strerror or error}", file=sys.stderr)
    return CANNOT_START


if __name__ == "__main__":
    sys.exit(main())
