"""The streams' program: the ASGI app in one of Granian's workers."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from granian.constants import Interfaces

from service.core.log import configure_log
from service.serve.addresses import Address
from service.serve.process import DRAIN_SECONDS
from service.serve.serving import Draining, DrainingServer
from service.serve.signals import become_child, end_with
from service.streams.app import Streams


def serve(
    settings: Mapping[str, Any], address: Address, others: Mapping[str, Sequence[Address]], ready: Callable[[], None]
) -> None:
    """Serve the streams until a signal comes; `others` are the other programs, by name. Calls `ready` before."""
    draining = Draining()
    server = DrainingServer(address, settings, draining, interface=Interfaces.ASGI, workers=1)
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
    configure_log(dict(settings))
    ready()
    return Streams(settings, lambda: bool(draining), others)
