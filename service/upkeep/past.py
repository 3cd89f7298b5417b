"""MongoDB's past, out of which a backup reads: kept for as long as that takes, where MongoDB keeps less than usual."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from service.mongo.raw import Raw

PAST_PARAMETER = "minSnapshotHistoryWindowInSeconds"
"""MongoDB's parameter of how long it keeps what was overwritten (MongoDB manual, `mongod` parameters)."""
USUAL_SECONDS = 300
"""What MongoDB keeps where it is not started with anything else."""
LONG_SECONDS = 86_400


@contextmanager
def past_kept(client: MongoClient[Raw]) -> Iterator[None]:
    """Have MongoDB keep the past while the block runs, if it is started to keep less than usual.

    One that is started as usual is left as it is: others may have their data there, and the past costs writes.
    """
    seconds = seconds_from_start(client)
    if seconds >= USUAL_SECONDS or not set_seconds(client, LONG_SECONDS):
        yield
        return
    try:
        yield
    finally:
        # Where MongoDB is away, it begins with what it is started with.
        with suppress(PyMongoError):
            set_seconds(client, seconds)


def seconds_from_start(client: MongoClient[Raw]) -> int:
    """Return for how long MongoDB is started to keep the past; the usual time where it does not tell us."""
    try:
        options = client.admin.command("getCmdLineOpts")["parsed"]
    except OperationFailure:
        return USUAL_SECONDS
    return int(options.get("setParameter", {}).get(PAST_PARAMETER, USUAL_SECONDS))


def set_seconds(client: MongoClient[Raw], seconds: int) -> bool:
    """Have MongoDB keep the past for some seconds from now on; tell whether it lets us."""
    try:
        client.admin.command({"setParameter": 1, PAST_PARAMETER: seconds})
    except OperationFailure:
        return False
    return True
