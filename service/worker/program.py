"""The program of a worker process: its crew and what it tells of itself, until a signal comes."""

import signal
from collections.abc import Callable, Mapping
from typing import Any

import mongoengine

from service.core.log import configure_log, log
from service.documents import RECORDS
from service.model.registry import Registry
from service.mongo import connection
from service.worker.chores import chores
from service.worker.crew import Crew
from service.worker.status import StatusServer

ENDING = {signal.SIGTERM}


def serve(settings: Mapping[str, Any], host: str, port: int, patience: float, ready: Callable[[], None]) -> None:
    """Do the chores until a signal ends it, in `patience` seconds then; call `ready` when all has begun.

    Call it from the main thread, before any other is started. Raises `OSError` where the port is taken.
    """
    # Blocked in every thread, a signal waits for this one to ask. The second ends the process at once.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    config = dict(settings)
    configure_log(config)
    mongoengine.connect(**connection.options(config))
    crew = Crew(chores(config, Registry(RECORDS)))
    status = StatusServer(host, port, crew, config["MONGODB_CONNECT_TIMEOUT"])
    crew.start()
    status.start()
    ready()
    signal.sigwait(ENDING)
    for sign in ENDING:
        signal.signal(sign, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    crew.stop(patience)
    log.info("worker_ended")
