"""One start of the service: a MongoDB where none is named, then its programs, until a signal comes."""

import gc
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from service.core.log import configure_log
from service.mongo import connection
from service.serve import door, mongod
from service.serve.addresses import API, DOOR, STREAMS, WORKER, Layout, laid_out, read_address
from service.serve.process import DRAIN_SECONDS, Forked, Process, Spawned
from service.serve.signals import Signals
from service.serve.supervisor import Program, Supervisor

MEMORY_NOTE = "--memory: everything is kept in memory by mongomock and LOST when the service stops"
MODULES = {API: "service.serve.api", STREAMS: "service.serve.streaming", WORKER: "service.worker.program"}
"""What is imported before a program is forked, and only then: memory that is shared costs once."""
NOTE = "  !!    {}"
TRY = (
    "curl {base}/v1/accounts -H 'Content-Type: application/json' "
    """-d '{{"username": "ada", "password": "a long pass phrase"}}'"""
)


@dataclass(frozen=True, slots=True)
class Start:
    """What the command line asks for."""

    names: Sequence[str]
    """The programs, of `addresses.PROGRAMS`."""
    host: str
    port: int
    workers: int
    """Processes of the API."""
    slots: int
    """Requests that one of them works on at once."""


@dataclass(frozen=True, slots=True)
class Database:
    """The MongoDB of this start."""

    uri: str
    where: str
    """Where the data is, for people."""
    server: mongod.LocalServer | None = None


@contextmanager
def database(settings: Mapping[str, Any], in_memory: bool) -> Iterator[Database]:
    """Yield the MongoDB that the settings name, else one of our own."""
    if in_memory:
        yield Database(connection.MEMORY, "in memory, lost at the end")
    elif settings["MONGODB_URI"]:
        yield Database(settings["MONGODB_URI"], "in the MongoDB that SERVICE_MONGODB_URI names")
    else:
        with mongod.LocalServer.start(Path(settings["VAR"]) / "mongodb") as server:
            yield Database(server.uri, f"{server.data} (mongod {server.pid}, {server.uri})", server)


@contextmanager
def imported(modules: Sequence[str]) -> Iterator[Callable[[], None]]:
    """Import modules while a mongod starts, on another core; yield what waits for the end of that."""
    thread = threading.Thread(target=lambda: [import_module(name) for name in modules])
    thread.start()
    try:
        yield thread.join
    finally:
        thread.join()


def launch(
    start: Start, settings: Mapping[str, Any], in_memory: bool, signals: Signals, say: Callable[[str], object]
) -> int:
    """Start the programs, keep them running until a signal comes, and end them; return the exit code.

    `say` is given the lines for the person at the terminal. Raises `CannotStart` or `MongodError`.
    """
    layout = laid_out(start.names, start.host, start.port)
    modules = [MODULES[name] for name in start.names if name != DOOR]
    if not modules:
        return keep_running(start, settings, layout, Database("", "elsewhere"), signals, say)
    # Meanwhile the mongod starts, on another core.
    with imported([*modules, "service.serve.preparation"]) as wait, database(settings, in_memory) as found:
        wait()
        from service.serve import preparation

        settings = {**settings, "MONGODB_URI": found.uri, "BEHIND_DOOR": settings["BEHIND_DOOR"] or DOOR in start.names}
        notes = [*([MEMORY_NOTE] if in_memory else []), *preparation.prepare(settings)]
        return keep_running(
            start, settings, layout, found, signals, lambda text: say("\n".join([text, *map(NOTE.format, notes)]))
        )


def keep_running(
    start: Start,
    settings: Mapping[str, Any],
    layout: Layout,
    found: Database,
    signals: Signals,
    say: Callable[[str], object],
) -> int:
    """Keep the programs running until a signal comes or one cannot live; return the exit code."""
    configure_log(dict(settings))
    # The programs share this memory as long as nobody looks through it.
    gc.collect()
    gc.freeze()
    programs = [Program(name, starting) for name, starting in startings(start, settings, layout).items()]
    if found.server is not None:
        programs.append(revived(found.server))
    supervisor = Supervisor(
        programs, signals, lambda: say("\n".join(announcement(start, settings, layout, found.where, programs)))
    )
    signals.listen()
    code = 1
    try:
        code = supervisor.run()
    finally:
        supervisor.end(settings["DRAIN_DELAY"] if code == 0 else 0.0)
    return code


def startings(start: Start, settings: Mapping[str, Any], layout: Layout) -> dict[str, Callable[[], Process]]:
    """Return what starts each program; the door last, for it needs the others."""
    own = layout.of
    others = {name: [*map(read_address, door.upstreams(settings, own, name))] for name in (API, WORKER)}
    known: dict[str, Callable[[], Callable[[Callable[[], None]], None]]] = {
        API: lambda: partial(module(API).serve, settings, own[API], start.workers, start.slots),
        STREAMS: lambda: partial(
            module(STREAMS).serve, settings, own[STREAMS], {name: where for name, where in others.items() if where}
        ),
        WORKER: lambda: partial(module(WORKER).serve, settings, *own[WORKER], DRAIN_SECONDS),
    }
    found: dict[str, Callable[[], Process]] = {
        name: partial(Forked, name, known[name]()) for name in start.names if name in known
    }
    if DOOR in own:
        config = door.for_layout(settings, own, own[DOOR])
        found[DOOR] = partial(door.start, door.find_caddy(), config, own[DOOR], Path(settings["VAR"]) / "door")
    return found


def module(name: str) -> Any:
    """Return the module of a program."""
    return import_module(MODULES[name])


def revived(server: mongod.LocalServer) -> Program:
    """Return the program of a mongod that runs."""
    program = Program("mongod", lambda: Spawned(server.revive()))
    program.process = Spawned(server.process)
    return program


def announcement(
    start: Start, settings: Mapping[str, Any], layout: Layout, data: str, programs: Sequence[Program]
) -> Iterator[str]:
    """Yield the lines that say where everything is and what to try."""
    secure = DOOR in layout.of and door.is_secure(settings)
    base = f"{'https' if secure else 'http'}://{(secure and settings['DOOR_HOST']) or layout.of[start.names[0]]}"
    workers = f", {start.workers} worker(s)" if API in start.names else ""
    yield f"Madang is at {base} — settings: {settings['ENVIRONMENT']}{workers}"
    is_whole = bool({DOOR, API} & set(start.names))
    if is_whole:
        yield f"  API   {base}/v1    docs  {base}/docs    health  {base}/health/ready"
    yield f"  data  {data}"
    running = {program.name: program.process.pid for program in programs if program.process is not None}
    yield "  runs  " + ", ".join(
        f"{name} {running[name]} at {layout.of[name]}" for name in running if name in layout.of
    )
    if is_whole:
        yield f"  try   {TRY.format(base=base)}"
