"""The programs of one start: what starts each of them, and what is said of them at the terminal."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from service.core.log import configure_log
from service.serve import door, mongod
from service.serve.addresses import API, DOOR, STREAMS, WORKER, Layout, read_address
from service.serve.process import DRAIN_SECONDS, Forked, Process, Spawned
from service.serve.signals import Signals
from service.serve.start import MODULES, Database, Start
from service.serve.supervisor import Program, Supervisor

TRY = (
    "curl {base}/v1/accounts -H 'Content-Type: application/json' "
    """-d '{{"username": "ada", "password": "a long pass phrase"}}'"""
)


def keep_running(
    start: Start,
    settings: Mapping[str, Any],
    layout: Layout,
    found: Database,
    signals: Signals,
    say: Callable[[str], object],
    notes: Sequence[str] = (),
    first_admin: str = "",
) -> int:
    """Keep the programs running until a signal comes or one cannot live; return the exit code.

    When all are ready, `say` is given the lines for the person at the terminal, with the `notes`, and the link by which
    the `first_admin` is made.
    """
    configure_log(dict(settings))
    # The programs share this memory as long as nobody looks through it.
    gc.collect()
    gc.freeze()
    programs = [Program(name, starting) for name, starting in startings(start, settings, layout).items()]
    if found.server is not None:
        programs.append(revived(found.server))
    told = partial(announcement, start, settings, layout, found.where, programs, notes, first_admin)
    supervisor = Supervisor(programs, signals, lambda: say("\n".join(told())))
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
    start: Start,
    settings: Mapping[str, Any],
    layout: Layout,
    data: str,
    programs: Sequence[Program],
    notes: Sequence[str],
    first_admin: str,
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
    if first_admin:
        yield f"  admin {first_admin} makes the first one, within an hour"
    yield from (f"  !!    {note}" for note in notes)
