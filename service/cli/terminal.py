"""What commands tell the person at the terminal: errors in one sentence, and how far something has come."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
from flask import current_app
from pymongo.errors import PyMongoError

from service.mongo import connection, problems
from service.upkeep import backup
from service.upkeep.archive import BackupError
from service.upkeep.indexes import IndexRefused
from service.upkeep.source import ImportRefused
from service.upkeep.upgrade import UpgradeError

MOST_SHOWN = 200
"""Most characters of a text of others that are shown."""


def harmless(text: str) -> str:
    """Return a text that others have made up for a terminal, which some characters command; of a long one the start."""
    shown = text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "…"
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in shown)


def refuse_memory() -> None:
    """Refuse what mongomock cannot do."""
    if connection.is_memory(current_app.config["MONGODB_URI"]):
        raise click.ClickException("this needs a real MongoDB; with --memory nothing is kept")


@contextmanager
def plainly(hint: str = "") -> Iterator[None]:
    """Say in one sentence, with a `hint` at its end, what went wrong in the block: the command's error."""
    try:
        yield
    except (UpgradeError, BackupError, IndexRefused, ImportRefused) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename or 'the file'}: {error.strerror}") from None
    except PyMongoError as error:
        what = "MongoDB does not answer" if problems.is_transient(error) else "MongoDB refuses"
        raise click.ClickException(f"{what}: {problems.said_by(error)}{hint}") from None


def reporter() -> backup.Report:
    """Return what shows how far each collection of a backup has come."""
    meters: dict[str, Meter] = {}

    def report(name: str, documents: int, size: int, finished: bool) -> None:
        meters.setdefault(name, Meter(name)).show(f"{documents} documents, {size / 1e6:.1f} MB", finished)

    return report


class Meter:
    """One line on stderr about how far something has come: written over on a terminal, else now and then a new one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.terminal = sys.stderr.isatty()
        self.next = time.monotonic() + 1

    def show(self, text: str, finished: bool) -> None:
        """Show a state, not too often; the last one always."""
        if not finished and time.monotonic() < self.next:
            return
        self.next = time.monotonic() + (0.2 if self.terminal else 5)
        end = "\n" if finished or not self.terminal else ""
        click.echo(f"{chr(13) if self.terminal else ''}{self.name}: {text}{end}", err=True, nl=False)
