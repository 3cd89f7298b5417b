"""A replica set of three mongods on loopback, each of which can be killed, frozen and started again."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from service.serve import mongod
from service.serve.addresses import LOOPBACK
from service.serve.mongod import REPLICA_SET
from service.serve.ports import free_port

ELECTION_TIMEOUT = 2.0
"""Seconds without a word from the primary after which another member stands for election; MongoDB's default is 10."""
POLL = 0.02

Found = TypeVar("Found")


def until(reached: Callable[[], Found], seconds: float, what: str) -> Found:
    """Return what `reached` gives as soon as it is true; raises `TimeoutError` that names `what` after `seconds`."""
    end = time.monotonic() + seconds
    while not (found := reached()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not in {seconds} s")
        time.sleep(POLL)
    return found


class Member:
    """A mongod with its data. It ends with the thread that started it, so start it from the main thread."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        self.log = folder / "mongod.log"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        """Name and port, as the other members and the clients know it."""
        return f"{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Start it on its data, whatever is there."""
        words = [str(mongod.find_mongod()), *mongod.options(self.data, 0.25, 128), "--port", str(self.port)]
        self.process = mongod.spawn(words, self.log)

    def send(self, sign: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        os.kill(self.process.pid, sign)

    def kill(self) -> None:
        """Kill it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def ask(self, command: str, **options: Any) -> Mapping[str, Any]:
        """Send an admin command to this member alone; raises `PyMongoError`."""
        uri = f"mongodb://{self.host}/?directConnection=true&serverSelectionTimeoutMS=1000&timeoutMS=2000"
        with MongoClient[dict[str, Any]](uri) as client:
            found: Mapping[str, Any] = client.admin.command(command, **options)
            return found


class Cluster:
    """Three members, one of which is primary most of the time."""

    def __init__(self, folder: Path) -> None:
        self.members = [Member(folder / f"member-{number}") for number in range(3)]

    @classmethod
    @contextmanager
    def started(cls, folder: Path) -> Iterator[Self]:
        """Start all members and make them a set; end them with the block."""
        cluster = cls(folder)
        try:
            for member in cluster.members:
                member.start()
            cluster.initiate()
            yield cluster
        finally:
            cluster.stop()

    @property
    def uri(self) -> str:
        """The URI of the set and its database, with the options that hosted databases give theirs."""
        hosts = ",".join(member.host for member in self.members)
        return f"mongodb://{hosts}/madang?replicaSet={REPLICA_SET}&retryWrites=true&w=majority"

    def initiate(self) -> None:
        """Make the members a set and wait until all are up."""
        members = [{"_id": number, "host": member.host} for number, member in enumerate(self.members)]
        settings = {"electionTimeoutMillis": int(ELECTION_TIMEOUT * 1000), "heartbeatIntervalMillis": 500}
        config = {"_id": REPLICA_SET, "members": members, "settings": settings}
        until(lambda: all(self.answers(member) for member in self.members), 60, "three mongods")
        self.members[0].ask("replSetInitiate", value=config)
        self.await_all(60)

    def elect_after(self, seconds: float) -> None:
        """Let `seconds` without a word from the primary pass before another member stands for election."""
        primary = self.primary()
        config = dict(primary.ask("replSetGetConfig")["config"])
        config["version"] += 1
        config["settings"]["electionTimeoutMillis"] = int(seconds * 1000)
        primary.ask("replSetReconfig", value=config)

    def answers(self, member: Member) -> bool:
        """Tell whether a member can be asked."""
        try:
            return bool(member.ask("hello")["ok"])
        except PyMongoError:
            return False

    def state_of(self, member: Member) -> str:
        """Return `PRIMARY`, `SECONDARY`, `RECOVERING` … as the member sees itself; nothing when it does not answer."""
        if member.process is None:
            return ""
        try:
            (own,) = (found for found in member.ask("replSetGetStatus")["members"] if found.get("self"))
        except (PyMongoError, ValueError):
            return ""
        return str(own["stateStr"])

    def await_all(self, seconds: float = 60) -> None:
        """Wait until one member is primary, takes writes, and the two others are secondaries."""

        def whole() -> bool:
            return sorted(map(self.state_of, self.members)) == ["PRIMARY", "SECONDARY", "SECONDARY"]

        until(whole, seconds, "a whole replica set")
        until(lambda: self.primary().ask("hello")["isWritablePrimary"], seconds, "a primary that takes writes")

    def primary(self, but: Member | None = None) -> Member:
        """Return the member that says that it is the primary, another one than `but`; waits for it up to a minute."""
        asked = [member for member in self.members if member is not but]
        (found, *_) = until(lambda: [one for one in asked if self.state_of(one) == "PRIMARY"], 60, "a primary")
        return found

    def secondaries(self) -> list[Member]:
        """Return the other members."""
        primary = self.primary()
        return [member for member in self.members if member is not primary]

    def restore(self) -> None:
        """Wake and start every member that is frozen or dead, and wait until the set is whole."""
        for member in self.members:
            if member.process is None:
                member.start()
            else:
                member.send(signal.SIGCONT)
        self.await_all()

    def stop(self) -> None:
        """Kill all members: what they hold is thrown away, and to step down in order would take each 15 seconds."""
        for member in self.members:
            member.kill()
