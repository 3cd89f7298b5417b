"""One start of the service: a MongoDB where none is named, and what the programs are made of, imported meanwhile."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.serve import mongod
from service.serve.addresses import API, DOOR, LOOPBACK, Address, laid_out
from service.serve.imports import imported
from service.serve.signals import Signals
from service.serve.start import MODULES, Database, Start

ALWAYS = ("service.serve.programs", "service.serve.preparation")
MEMORY_NOTE = "--memory: everything is kept in memory by mongomock and LOST when the service stops"


@contextmanager
def database(settings: Mapping[str, Any], in_memory: bool) -> Iterator[Database]:
    """Yield the MongoDB that the settings name, else one of our own."""
    if in_memory:
        from service.mongo.connection import MEMORY

        yield Database(MEMORY, "in memory, lost at the end")
    elif settings["MONGODB_URI"]:
        yield Database(settings["MONGODB_URI"], "in the MongoDB that SERVICE_MONGODB_URI names")
    else:
        with mongod.LocalServer.start(Path(settings["VAR"]) / "mongodb") as server:
            yield Database(server.uri, f"{server.data} (mongod {server.pid}, {server.uri})", server)


def launch(
    start: Start, settings: Mapping[str, Any], in_memory: bool, signals: Signals, say: Callable[[str], object]
) -> int:
    """Start the programs, keep them running until a signal comes, and end them; return the exit code.

    `say` is given the lines for the person at the terminal. Raises `CannotStart`.
    """
    layout = laid_out(start.names, start.host, start.port)
    modules = [MODULES[name] for name in start.names if name != DOOR]
    if not modules:
        from service.serve.programs import keep_running

        return keep_running(start, settings, layout, Database("", "elsewhere"), signals, say)
    # Meanwhile the mongod starts, on another core.
    with imported([*modules, *ALWAYS]) as wait, database(settings, in_memory) as found:
        wait()
        from service.serve.preparation import first_admin_link, prepare
        from service.serve.programs import keep_running

        behind_door = settings["BEHIND_DOOR"] or DOOR in start.names
        settings = {
            **settings,
            "MONGODB_URI": found.uri,
            "BEHIND_DOOR": behind_door,
            "PUBLIC_URL": url(start, settings),
        }
        notes = [*([MEMORY_NOTE] if in_memory else []), *prepare(settings)]
        begins = first_admin_link(settings) if API in start.names else ""
        return keep_running(start, settings, layout, found, signals, say, notes, begins)


def url(start: Start, settings: Mapping[str, Any]) -> str:
    """Return where links of mails lead: as the settings say, else for somebody who develops to this machine."""
    if settings["PUBLIC_URL"] or settings["ENVIRONMENT"] != "local":
        return str(settings["PUBLIC_URL"])
    return f"http://{Address(LOOPBACK if start.host in ANY_HOST else start.host, start.port)}"


ANY_HOST = ("0.0.0.0", "::", "")  # noqa: S104  they are looked for, not listened at
