"""Imports of the programs, while something else starts; what a document class gets wrong is one sentence."""

import re
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from service.serve.failures import CannotStart

ROOT = Path(__file__).parents[2]
DOCUMENTS = ROOT / "service" / "documents"
HINTS = {"Reverse delete rules are not supported": "; say delete_rule=… there"}
"""What to add to a sentence of MongoEngine's."""


@contextmanager
def imported(modules: Sequence[str]) -> Iterator[Callable[[], None]]:
    """Import modules while a mongod starts, on another core; yield what waits for the end of that.

    That raises `CannotStart` where the module of a document cannot be imported, and what any other raised.
    """
    failed: list[Exception] = []

    def work() -> None:
        try:
            for name in modules:
                import_module(name)
        except Exception as error:
            failed.append(error)

    def wait() -> None:
        thread.join()
        for error in failed:
            said = mistake_in_document(error)
            raise (CannotStart(said) if said else error)

    # Nobody waits for it where a signal ends the start.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield wait


def mistake_in_document(error: Exception) -> str:
    """Return what is wrong in the module of a document, with its place; empty where an error came from elsewhere."""
    place = place_in_documents(error)
    if place is None:
        return ""
    if isinstance(error, re.error):
        return f"{place}: {error.pattern!r} is no regular expression: {error}"
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    text = " ".join(said.split()) or type(error).__name__
    hint = next((hint for part, hint in HINTS.items() if part in text), "")
    return f"{place}: {text}{hint}"


def place_in_documents(error: Exception) -> str | None:
    """Return file and line of the last step before an error, None where that is in the module of no document."""
    if isinstance(error, SyntaxError) and error.filename:
        return named_place(Path(error.filename), error.lineno)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if ROOT in Path(frame.filename).parents]
    own = [frame for frame in frames if "site-packages" not in frame.filename]
    return named_place(Path(own[-1].filename), own[-1].lineno) if own else None


def named_place(file: Path, line: int | None) -> str | None:
    """Return a place for a person, None where it is in the module of no document."""
    return f"{file.relative_to(ROOT)}, line {line}" if file.parent == DOCUMENTS else None
