"""What one start of the service is asked for, and what it has to work with."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.serve.addresses import API, STREAMS, WORKER
from service.serve.mongod import LocalServer

MODULES = {API: "service.serve.api", STREAMS: "service.serve.streaming", WORKER: "service.worker.program"}
"""What is imported before a program is forked, and only then: memory that is shared costs once."""


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
    server: LocalServer | None = None
