"""Whether a server answers rightly: asked before it is measured, for wrong answers can be given fast."""

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import Any

from bench import contenders, data
from bench.contenders import Contender
from bench.data import Dataset
from bench.processes import Process

NUMBER = 253
"""The note that is read and changed: of account 3, whether there are 5 accounts or 50, and on no page of the list."""
OWNER, STRANGER = 3, 4


class WrongAnswer(AssertionError):
    """A server did not answer as it should."""


def ask(process: Process, method: str, path: str, token: str | None, body: Any = None) -> tuple[int, Any]:
    """Return the status and the decoded body of one answer."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(process.base + path, content, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        error.read()
        return error.code, None


def expect(contender: Contender, what: str, found: Any, *wanted: Any) -> None:
    """Raise `WrongAnswer` where what was found is none of what is wanted."""
    if found not in wanted:
        raise WrongAnswer(f"{contender.name}: {what} is {found!r} and not {' or '.join(map(repr, wanted))}")


def comparable(note: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a note with its time as a number: the peers write it each in their own way."""
    return {name: value for name, value in note.items() if name in CONTENT} | {"due": seconds(note["due"])}


CONTENT = ("title", "body", "tags", "pinned", "priority", "place", "checklist")


def seconds(time: str | datetime) -> float:
    """Return a time as seconds since the epoch; UTC is meant where no zone is named."""
    moment = datetime.fromisoformat(time) if isinstance(time, str) else time
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def check(contender: Contender, process: Process, dataset: Dataset) -> None:
    """Raise `WrongAnswer` unless reading, listing, writing and access are right."""
    reading(contender, process, dataset)
    listing(contender, process, dataset)
    creating(contender, process)
    patching(contender, process, dataset)


def reading(contender: Contender, process: Process, dataset: Dataset) -> None:
    """Check one note, and who may read it."""
    path = contender.item % data.note_id(NUMBER)
    own, strange = contender.token(OWNER), contender.token(STRANGER)
    status, note = ask(process, "GET", path, own)
    expect(contender, "the status of a note", status, 200)
    expect(contender, "a note", comparable(contender.unshaped(note)), comparable(dataset.content(NUMBER)))
    expect(contender, "the status of another's note", ask(process, "GET", path, strange)[0], 403, 404)
    expect(contender, "the status of no note", ask(process, "GET", contender.item % data.note_id(10**9), own)[0], 404)
    for bad in (None, own[:-3], data.token(OWNER, life=-3600)):
        # PocketBase shows somebody without one what everybody may see: nothing.
        status = ask(process, "GET", path, bad)[0]
        expect(contender, "the status without a good token", status, 401, 403, 404, 422)


def listing(contender: Contender, process: Process, dataset: Dataset) -> None:
    """Check that a list has the right notes in the right order, whole."""
    status, body = ask(process, "GET", contender.list_path, contender.token(OWNER))
    expect(contender, "the status of a list", status, 200)
    items = contender.items(body)
    expect(contender, "a list", [note["id"] for note in items], dataset.page_of(OWNER))
    for note in items:
        number = int(note["id"][8:], 16)
        expect(contender, "a note of a list", comparable(note), comparable(dataset.content(number)))


def creating(contender: Contender, process: Process) -> None:
    """Check that a new note is stored for its owner, and that a wrong one is refused."""
    body = contender.body(OWNER, contenders.new_note(0))
    status, made = ask(process, "POST", contender.collection, contender.token(OWNER), body)
    expect(contender, "the status of a new note", status, 200, 201)
    path = contender.item % contender.unshaped(made)["id"]
    status, note = ask(process, "GET", path, contender.token(OWNER))
    expect(contender, "a new note", comparable(contender.unshaped(note)), comparable(body))
    strange = contender.token(STRANGER)
    expect(contender, "the status of another's new note", ask(process, "GET", path, strange)[0], 403, 404)
    if contender.validates:
        for wrong in ({"body": "no title"}, {**body, "title": "x" * 300}, {**body, "priority": 17}):
            status = ask(process, "POST", contender.collection, contender.token(OWNER), wrong)[0]
            expect(contender, "the status of a wrong note", status, 400, 422)


def patching(contender: Contender, process: Process, dataset: Dataset) -> None:
    """Check that a patch changes what it names, and only for the owner; it leaves the note as it was."""
    path = contender.item % data.note_id(NUMBER)
    own, before = contender.token(OWNER), dataset.content(NUMBER)
    status = ask(process, "PATCH", path, contender.token(STRANGER), {"title": "mine now"})[0]
    expect(contender, "the status of a patch of another's note", status, 403, 404)
    for title in ("changed", before["title"]):
        status, note = ask(process, "PATCH", path, own, {"title": title})
        expect(contender, "the status of a patch", status, 200)
        wanted = comparable({**before, "title": title})
        expect(contender, "a patched note", comparable(contender.unshaped(note)), wanted)
        status, note = ask(process, "GET", path, own)
        expect(contender, "a note after its patch", comparable(contender.unshaped(note)), wanted)
    if contender.validates:
        status = ask(process, "PATCH", path, own, {"priority": 17})[0]
        expect(contender, "the status of a wrong patch", status, 400, 422)
