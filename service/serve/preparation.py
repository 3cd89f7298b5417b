"""What has to be so in the database before the service starts."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mongoengine
from pymongo.errors import ConfigurationError, PyMongoError

from service.changes.after_changes import begin_hooks
from service.documents import RECORDS
from service.identity.first_admin import FIRST_PATH, FirstAdmin, is_without_admin
from service.identity.security import keys_of
from service.identity.tokens import Tokens
from service.model.registry import Registry
from service.mongo import connection, problems
from service.serve.failures import CannotStart, Unreachable
from service.upkeep import backup, indexes, upgrade, wording


def prepare(settings: Mapping[str, Any]) -> list[str]:
    """Make the missing indexes, or refuse to start without them where a person makes them; say what is left to do.

    Raises `CannotStart` with the names of those that are missing, where MongoDB would acknowledge a write that can
    get lost, where a restore did not come to its end, or where the URI is wrong; `Unreachable` where nobody answers.
    """
    with connected(settings):
        return made_ready(Registry(RECORDS), settings["CREATE_INDEXES"])


@contextmanager
def connected(settings: Mapping[str, Any]) -> Iterator[None]:
    """Connect this process with MongoDB for a while. Raises `CannotStart` and `Unreachable`, as `prepare` does."""
    try:
        mongoengine.connect(**connection.options(dict(settings)))
        yield
    except ConfigurationError as error:
        raise CannotStart(f"SERVICE_MONGODB_URI: {error}") from error
    except PyMongoError as error:
        what = "does not answer" if problems.is_transient(error) else "refuses"
        raise Unreachable(f"MongoDB {what}: {problems.said_by(error)}") from error
    except (TypeError, ValueError) as error:
        raise CannotStart(str(error)) from error
    finally:
        # The programs are forked from this process, and a connection belongs to one process.
        connection.disconnect()


def made_ready(registry: Registry, make_indexes: bool) -> list[str]:
    """Prepare the database that is connected."""
    found = weak_writes()
    if backup.is_unfinished():
        raise CannotStart("a restore was cut short: run `flask restore FILE` again")
    upgrade.mark_empty(registry)
    wording.mark_empty(registry)
    if make_indexes:
        # One that is there but different serves the servers of the old version, which may still run.
        indexes.make(registry, "missing")
    elif missing := [str(change) for change in indexes.changes(registry) if change.kind == "missing"]:
        raise CannotStart("run `flask indexes make`; these are missing:\n" + "\n".join(missing))
    begin_hooks(registry)
    return [*found, *upgrade.advice(registry), *wording.advice(registry), *indexes.advice(registry)]


def first_admin_link(settings: Mapping[str, Any]) -> str:
    """Return the link by which the first admin is made; empty where there is one, and where others might read it."""
    if settings["ENVIRONMENT"] != "local":
        return ""
    with connected(settings):
        if not is_without_admin():
            return ""
        token = FirstAdmin(keys_of(settings, Tokens(settings))).token()
    return f"{settings['PUBLIC_URL']}{FIRST_PATH}?token={token}"


def weak_writes() -> list[str]:
    """Raise `CannotStart` where MongoDB acknowledges a write that can get lost; say so where it does not tell."""
    default = connection.default_write_concern()
    if default is None:
        return ["this user of MongoDB may not see its default write concern; it has to be a majority"]
    if default != "majority":
        raise CannotStart(
            f"MongoDB acknowledges a write when {default} of its members has it, so it can get lost. Run there:\n"
            'db.adminCommand({setDefaultRWConcern: 1, defaultWriteConcern: {w: "majority"}})'
        )
    return []
