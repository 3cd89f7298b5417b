"""The connection to MongoDB: how it is opened, how long it may take, and how it is."""

import re
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

import mongoengine
import pymongo
from mongoengine.connection import get_connection
from pymongo.client_options import ClientOptions
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from service.core import metrics
from service.core.clock import now
from service.core.log import log
from service.mongo import short
from service.mongo.driver import Driver
from service.mongo.plain import PyMongoDriver
from service.mongo.raw import Raw
from service.mongo.short import ShortDriver

MEMORY = "memory://"
"""Scheme of a `MONGODB_URI` that means mongomock: nothing is kept."""


class Client(pymongo.MongoClient[Raw]):
    """PyMongo's client, with the driver that its options allow."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.driver: Driver = chosen(self.options)


def chosen(options: ClientOptions) -> Driver:
    """Return the driver for a connection with these options: the short way, if they ask for nothing beyond it."""
    reason = short.obstacle(options)
    return PyMongoDriver(reason) if reason else ShortDriver(float(options.timeout or 0))


def options(config: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `mongoengine.connect`. Every operation has a deadline (`timeoutMS`).

    The write concern is the server's default, a majority since MongoDB 5: named here, PyMongo 4.20 would send it inside
    of transactions too, where the server refuses it. Reads ask the primary, where every acknowledged write is.
    Raises `ValueError` for a URI that asks for less.
    """
    uri = config["MONGODB_URI"]
    if is_memory(uri):
        from service.mongo.memory import MemoryClient

        return {"host": "mongodb://localhost", "db": "madang", "mongo_client_class": MemoryClient}
    return {
        "mongo_client_class": Client,
        "host": without_write_concern(uri),
        "db": name_of(uri),
        "connect": False,
        "timeoutMS": int(config["MONGODB_TIMEOUT"] * 1000),
        "serverSelectionTimeoutMS": int(config["MONGODB_CONNECT_TIMEOUT"] * 1000),
        "connectTimeoutMS": int(config["MONGODB_CONNECT_TIMEOUT"] * 1000),
        "maxPoolSize": config["MONGODB_POOL_SIZE"],
        "retryWrites": True,
        "retryReads": True,
        "readPreference": "primary",
        "appname": "madang",
        "event_listeners": metrics.LISTENERS,
        # Other software may have stored a year of 10000, or text that is no UTF-8: one value of one document must not
        # make the whole reply unreadable.
        "datetime_conversion": "DATETIME_AUTO",
        "unicode_decode_error_handler": "replace",
    }


def async_client(config: dict[str, Any]) -> pymongo.AsyncMongoClient[Raw]:
    """Return a client for coroutines, with the same options. Opens no connection."""
    given = options(config)
    return pymongo.AsyncMongoClient(
        given.pop("host"), **{name: value for name, value in given.items() if name not in ("db", "mongo_client_class")}
    )


AWAITED = 1.0
"""Most seconds for which a change stream waits for an event."""


stream_clients: list[pymongo.MongoClient[Raw]] = []
"""Those of this process: one for each app."""


def stream_client(config: Mapping[str, Any]) -> pymongo.MongoClient[Raw]:
    """Return a client for change streams, with the same options but no deadline for a whole operation.

    An operation with one would be told to wait for an event for as long. Opens no connection.
    """
    given = options({**config})
    wait = AWAITED + config["MONGODB_TIMEOUT"]
    kept = {
        name: value for name, value in given.items() if name not in ("db", "mongo_client_class", "timeoutMS", "host")
    }
    client = pymongo.MongoClient(given["host"], **{**kept, "socketTimeoutMS": int(wait * 1000), "maxPoolSize": 2})
    stream_clients.append(client)
    return client


def is_memory(uri: str | None) -> bool:
    """Tell whether a URI means mongomock."""
    return bool(uri and uri.startswith(MEMORY))


def name_of(uri: str) -> str:
    """Return the name of the database in the path of a URI."""
    return str(parse_uri(uri)["database"] or "madang")


RULES: Mapping[str, frozenset[str]] = {
    "w": frozenset({"majority"}),
    "journal": frozenset({"true"}),
    "retrywrites": frozenset({"true"}),
}
"""What a URI may say of options on which it stands that no acknowledged write is lost."""


def without_write_concern(uri: str) -> str:
    """Return a URI without the options that are the rule here anyhow; raises `ValueError` where they break it."""
    server, mark, named = uri.partition("?")
    kept = []
    for option in filter(None, re.split("[&;]", named)):
        name, _, value = option.partition("=")
        if value.lower() not in RULES.get(name.lower(), {value.lower()}):
            raise ValueError(f"MONGODB_URI has {option}, with which a write can get lost; leave it out")
        if name.lower() not in ("w", "journal", "wtimeoutms"):
            kept.append(option)
    return server + (mark + "&".join(kept) if kept else "")


UNAUTHORIZED = 13


def default_write_concern() -> str | int | None:
    """Return how many members have a write before it is acknowledged; None where this user may not ask.

    It is less than a `majority` where arbiters vote, before MongoDB 5, and where somebody has set it so.
    """
    client = get_connection()
    if not isinstance(client, pymongo.MongoClient):
        return "majority"
    try:
        found = client.admin.command("getDefaultRWConcern")
    except OperationFailure as error:
        if error.code == UNAUTHORIZED:
            return None
        raise
    return cast("str | int", found.get("defaultWriteConcern", {}).get("w", 1))


def is_writable() -> bool:
    """Tell whether MongoDB has a primary that takes writes now."""
    client = get_connection()
    if not isinstance(client, pymongo.MongoClient):
        return True
    try:
        return bool(client.admin.command("hello")["isWritablePrimary"])
    except PyMongoError:
        return False


def server_time() -> datetime:
    """Return the time of MongoDB's primary in UTC, without a zone; with mongomock, ours."""
    client = get_connection()
    if not isinstance(client, pymongo.MongoClient):
        return now()
    return cast(datetime, client.admin.command("hello")["localTime"])


def count_connections() -> None:
    """Set the gauges of this process's connections to MongoDB; a look now and then costs less than to count uses."""
    client = get_connection()
    if not isinstance(client, pymongo.MongoClient):
        return
    pools = [server.pool for server in list(client._topology._servers.values())]
    in_use = sum(pool.active_sockets for pool in pools)
    metrics.OPEN.set(in_use + sum(len(pool.conns) for pool in pools))
    metrics.IN_USE.set(in_use)


def tell_driver() -> None:
    """Log which driver was chosen for the connection, and why where it is not the short way."""
    driver: Driver = get_connection().driver
    log.info("driver", driver=driver.name, **({"reason": driver.reason} if driver.reason else {}))


def keep_counting(pause: float = 1.0) -> None:
    """Start a thread that counts the connections every `pause` seconds."""

    def work() -> None:
        while True:
            time.sleep(pause)
            count_connections()

    threading.Thread(target=work, name="connections", daemon=True).start()


def disconnect() -> None:
    """Close every connection, so that another app of this process can connect elsewhere."""
    mongoengine.disconnect_all()
    while stream_clients:
        stream_clients.pop().close()
