"""The API's program: the Flask app in Granian's workers."""

import gc
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from flask import Flask
from granian.constants import Interfaces

from service import app as application
from service.http.admission import Admission, threads
from service.mongo import connection
from service.serve.addresses import API, Address
from service.serve.failures import CannotStart
from service.serve.process import DRAIN_SECONDS
from service.serve.serving import Draining, DrainingServer, Farewell, allow_connections
from service.serve.signals import become_child, end_with, wake_for_signals
from service.worker.chores import chores, measuring
from service.worker.crew import Crew


def serve(settings: Mapping[str, Any], address: Address, workers: int, slots: int, ready: Callable[[], None]) -> None:
    """Serve the API until a signal comes: in so many workers, so many requests at once in each.

    Calls `ready` in each worker that is about to take requests. Raises `CannotStart` where the settings do not make an
    app.
    """
    try:
        application.create_app(settings)
    except (TypeError, ValueError) as error:
        raise CannotStart(str(error)) from error
    connection.disconnect()
    settings = {**settings, "MAX_CONNECTIONS": allow_connections(settings["MAX_CONNECTIONS"])}
    draining = Draining()
    server = DrainingServer(
        API,
        address,
        settings,
        draining,
        interface=Interfaces.WSGI,
        workers=workers,
        blocking_threads=threads(slots),
        websockets=False,
    )
    server.run(partial(load_worker, settings, draining, slots, address.port, os.getpid(), ready))


def load_worker(
    settings: Mapping[str, Any], draining: Draining, slots: int, port: int, parent: int, ready: Callable[[], None]
) -> Flask:
    """Return the WSGI application for a worker that has just been started: so many requests at once, on a port."""
    # Until Granian listens to signals, this process has its parent's way with them, and would not end.
    become_child()
    wake_for_signals()
    end_with(parent, DRAIN_SECONDS)
    app = create_serving_app(settings)
    app.extensions["madang.draining"] = draining
    admitted = Admission(app.wsgi_app, slots, app.config)
    admitted.watch.start(port)
    app.wsgi_app = Farewell(admitted, draining)  # type: ignore[method-assign]
    ready()
    return app


def create_serving_app(settings: Mapping[str, Any]) -> Flask:
    """Return the application that a worker serves, and do beside it what does not wait for a request."""
    app = application.create_app(settings)
    connection.tell_driver()
    connection.keep_counting()
    app.extensions["madang.security"].sessions.keep_renewing()
    if connection.is_memory(settings["MONGODB_URI"]):
        # The data is in this process alone.
        Crew(chores(settings, app.extensions["madang.registry"]), alone=True).start()
    else:
        # Where there is no worker in this start, nobody else knows what it has counted.
        Crew([measuring(settings)]).start()
    # What is here now stays for good: without this, looking through it again and again is a fifth of a request.
    gc.collect()
    gc.freeze()
    # What a request makes is gone without the collector; a page of a list alone would start it three times.
    gc.set_threshold(20_000)
    return app
