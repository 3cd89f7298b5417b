"""Pushes: how many notifications a worker hands to APNs in a second, over how many connections, in how much memory.

`python -m bench.pushes --number 50000` starts a MongoDB and a server that speaks APNs, each a process of its own, and
sends one notification to each of as many devices.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import mongoengine

import settings
from service.core.clock import now
from service.core.log import configure_log
from service.documents import OutboxItem, Session
from service.model.registry import Registry
from service.mongo import connection
from service.outbox.bulk_dispatch import BulkDispatcher
from service.push import registrations, sending
from service.push.apns import Apns
from service.push.notification import Notification
from service.push.registrations import key_of
from service.push.sender import PushSender
from service.serve import mongod
from service.upkeep import indexes
from tests.dispatching import Deaf, look
from tests.http2_server import Asked, Http2Server, Said
from tests.pushing import credentials

STEPS = 5
DEVICES = 1000


def serve(folder: Path, pipe: Connection) -> None:
    """Answer as APNs does, until told to end."""
    number = 0

    def answer(asked: Asked) -> Said:
        nonlocal number
        number += 1
        return Said(200, None, {"apns-id": asked.headers["apns-id"]})

    server = Http2Server(folder, answer, streams=1000, keeps=False)
    pipe.send((server.url, str(server.certificate)))
    pipe.recv()
    pipe.send((number, server.connections, server.most_at_once, time.process_time()))
    server.stop()


def resident() -> float:
    """Return the memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def register_devices() -> list[registrations.Registration]:
    """Make sessions that are reached, as many as there are devices."""
    moment = now()
    rows: list[dict[str, Any]] = []
    for number in range(DEVICES):
        token = f"{number:064x}"
        push = {"platform": "apns", "token": token, "key": key_of("apns", token), "topics": [], "registered_at": moment}
        times = {"created_at": moment, "last_used_at": moment, "expires_at": moment.replace(year=moment.year + 1)}
        rows.append({"_id": f"s{number}", "account": f"a{number}", "auth_time": 0, "push": push, **times})
    Session._get_collection().insert_many(rows)
    return [registrations.Registration.of(row) for row in rows]


def put(devices: list[registrations.Registration], number: int) -> None:
    """Put notifications into the outbox."""
    told = Notification("New note", "Bob has shared a note with you", {"note": "n1"}, collapse="note")
    for begin in range(0, number, len(devices)):
        sending.put_items(devices[: number - begin], told)


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.pushes", description=__doc__)
    parser.add_argument("--number", type=int, default=50_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=serve, args=(folder, theirs))
        process.start()
        url, certificate = ours.recv()
        os.environ["SSL_CERT_FILE"] = certificate
        database = mongod.LocalServer.start(folder / "mongodb")
        try:
            measure(folder, url, database.uri, options.number)
        finally:
            ours.send(None)
            came, connections, at_once, cpu = ours.recv()
            print(f"the server got {came:,} over {connections} connection, {at_once} at once at most")
            print(f"it could have taken {came / cpu:,.0f} for each second of a processor of its own")
            process.join()
            database.stop()


def measure(folder: Path, url: str, uri: str, number: int) -> None:
    """Send in some steps, and print how fast each was, and the memory behind it."""
    config = {**settings.load({"SERVICE_ENV": "test", "SERVICE_MONGODB_URI": uri}), **credentials(folder, url)}
    configure_log({**config, "LOG_LEVEL": "ERROR"})
    mongoengine.connect(**connection.options(config))
    indexes.make(Registry([]))
    devices = register_devices()
    dispatcher = BulkDispatcher(PushSender(Apns(config)), Deaf())
    rates = []
    for step in range(STEPS):
        put(devices, number // STEPS)
        began, cpu = time.monotonic(), time.process_time()
        while OutboxItem._get_collection().find_one({"state": "waiting"}, {"_id": 1}) is not None:
            look(dispatcher)
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        rates.append(number / STEPS / seconds)
        own = number / STEPS / cpu
        print(f"step {step + 1}: {rates[-1]:,.0f}/s, {own:,.0f} for each second of a processor, {resident():.1f} MiB")
    print(f"{number:,} in all, {min(rates):,.0f} to {max(rates):,.0f} a second")


if __name__ == "__main__":
    main()
