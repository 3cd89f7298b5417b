"""The streams' program: the ASGI app in one of Granian's workers."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import mongoengine
from granian.constants import Interfaces

from service.core.log import configure_log
from service.documents import RECORDS
from service.model.registry import Registry
from service.mongo import connection
from service.serve.addresses import STREAMS, Address
from service.serve.process import DRAIN_SECONDS
from service.serve.serving import Draining, DrainingServer, allow_connections
from service.serve.signals import become_child, end_with
from service.streams.app import Streams
from service.worker.chores import measuring
from service.worker.crew import Crew


def serve(
    settings: Mapping[str, Any], address: Address, others: Mapping[str, Sequence[Address]], ready: Callable[[], None]
) -> None:
    """Serve the streams until a signal comes; `others` are the other programs, by name. Calls `ready` before."""
    settings = {**settings, "MAX_CONNECTIONS": allow_connections(settings["MAX_CONNECTIONS"])}
    draining = Draining()
    server = DrainingServer(STREAMS, address, settings, draining, interface=Interfaces.ASGI, workers=1)
    server.run(partial(load_worker, settings, draining, others, os.getpid(), ready))


def load_worker(
    settings: Mapping[str, Any],
    draining: Draining,
    others: Mapping[str, Sequence[Address]],
    parent: int,
    ready: Callable[[], None],
) -> Streams:
    """Return the ASGI app for a worker that has just been started."""
    become_child()
    end_with(parent, DRAIN_SECONDS)
    config = dict(settings)
    lines = configure_log(config)
    mongoengine.connect(**connection.options(config))
    Crew([measuring(config)]).start()
    ready()
    return Streams(config, Registry(RECORDS), lambda: bool(draining), others, lines)
