"""One mongod as a replica set: made so at its first start, and waited for until it takes writes."""

import socket
import subprocess
import time
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from service.serve.failures import Exited, MongodError

POLL = 0.025
NOT_YET_INITIALIZED = 94
ALREADY_INITIALIZED = 23
UNAUTHORIZED = (13, 18)


def initiate(uri: str, host: str | None = None, timeout: float = 60.0) -> None:
    """Make the mongod at `uri` (started with --replSet) a one-member replica set and wait for its primary.

    `host` is the member's `name:port` as clients reach it, by default the one in the URI; `timeout` is in seconds.
    May be called again and by several at once. Raises MongodError when there is no primary in time, or can never be.
    """
    await_primary(uri, host, time.monotonic() + timeout)


def await_primary(
    uri: str, host: str | None, deadline: float, process: "subprocess.Popen[bytes] | None" = None
) -> None:
    """Take every step until the set has a writable primary, at the latest at `deadline` of the monotonic clock.

    Raises `Exited` when `process`, the mongod that is waited for, ends before, MongodError when time is over.
    """
    name, address, port = target(uri)
    last: Exception | None = None
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            raise Exited(f"mongod ended with code {process.returncode}")
        try:
            # PyMongo looks again only after half a second when the first connection is refused.
            socket.create_connection((address, port), timeout=2).close()
            with _direct(uri) as client:
                if _advance(client.admin, name, host or f"{address}:{port}", process):
                    return
        except (PyMongoError, OSError) as error:
            if isinstance(error, OperationFailure) and error.code in UNAUTHORIZED:
                raise MongodError(f"MongoDB at {address}:{port} does not let us in: {error}") from error
            last = error
        time.sleep(POLL)
    raise MongodError(f"MongoDB at {address}:{port} has no primary yet, time is over. Last: {last or 'no election'}")


def _advance(admin: Database[dict[str, Any]], name: str, host: str, process: "subprocess.Popen[bytes] | None") -> bool:
    """Take the next step towards a writable primary; true when there is one."""
    if process is not None and admin.command("serverStatus")["pid"] != process.pid:
        return False  # somebody else took the port first; ours will end and say so
    hello = admin.command("hello")
    if hello.get("isreplicaset"):  # it knows no configuration in which it finds itself
        _configure(admin, name, host)
        return False
    if "setName" not in hello:
        raise MongodError(f"MongoDB at {host} was started without --replSet {name}.")
    _same_set(hello["setName"], name, host)
    return bool(hello["isWritablePrimary"]) or hello.get("primary", hello.get("me")) != hello.get("me")


def _configure(admin: Database[dict[str, Any]], name: str, host: str) -> None:
    config = _stored_config(admin)
    if config is None:
        _create_set(admin, name, host)
        return
    _same_set(config["_id"], name, host)
    if len(config["members"]) == 1 and config["members"][0]["host"] != host:
        config["members"][0]["host"] = host
        config["version"] += 1
        # Without force only a primary may do this, and a member that does not find itself is none.
        admin.command("replSetReconfig", config, force=True)


def _stored_config(admin: Database[dict[str, Any]]) -> dict[str, Any] | None:
    try:
        config: dict[str, Any] = admin.command("replSetGetConfig")["config"]
    except OperationFailure as error:
        if error.code != NOT_YET_INITIALIZED:
            raise
        return None
    return config


def _create_set(admin: Database[dict[str, Any]], name: str, host: str) -> None:
    try:
        admin.command("replSetInitiate", {"_id": name, "members": [{"_id": 0, "host": host}]})
    except OperationFailure as error:
        if error.code != ALREADY_INITIALIZED:
            raise


def _same_set(found: str, wanted: str, host: str) -> None:
    if found != wanted:
        raise MongodError(f"MongoDB at {host} belongs to the replica set {found!r}, not to {wanted!r}.")


def target(uri: str) -> tuple[str, str, int]:
    """Return the name of the replica set, the host and the port that a URI names; raises MongodError."""
    parsed = parse_uri(uri)
    if len(parsed["nodelist"]) != 1:
        raise MongodError("A one-member replica set has one host; the URI names several.")
    name = parsed["options"].get("replicaSet")
    if not name:
        raise MongodError("The URI must name the replica set: mongodb://host:27017/?replicaSet=rs0")
    address, port = parsed["nodelist"][0]
    return str(name), str(address), int(port or 27017)


def _direct(uri: str) -> MongoClient[dict[str, Any]]:
    # Without the set's name: a client that asks for it does not talk to a member that has none yet.
    return MongoClient(
        uri, replicaSet=None, directConnection=True, serverSelectionTimeoutMS=2000, connectTimeoutMS=2000
    )
