"""Packets of Socket.IO (its protocol, revision 5): those that clients may send, and live events written as such."""

import re
from dataclasses import dataclass
from typing import Any

import orjson

from service.core.errors import MalformedJson, Problem, ValidationFailed
from service.core.json_text import decode
from service.streams.sse import ServerSent

CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR = "01234"
"""Kinds of packets. What a client sends with binary attachments has another kind, which is not taken."""
MAIN = "/"
"""The namespace of who names none, and the only one."""
SEPARATOR = "\x1e"
"""What ends each packet where several are one text: as in payloads of Engine.IO; JSON has none that is not escaped."""
GRAMMAR = re.compile(r"([012])(?:(/[^,]{0,200}),)?([0-9]{0,15})(.*)", re.DOTALL)


class MalformedPacket(Exception):
    """Some client has sent what no client of this protocol does."""


@dataclass(frozen=True, slots=True)
class Packet:
    """What a client has sent. `id` is that of the acknowledgement that it waits for, empty where it does not."""

    kind: str
    namespace: str
    id: str
    content: Any


def read_packet(text: str) -> Packet:
    """Return the packet that a text is; raises `MalformedPacket`."""
    found = GRAMMAR.fullmatch(text)
    if found is None:
        raise MalformedPacket
    kind, namespace, id, rest = found.groups()
    try:
        content = decode(rest.encode()) if rest else None
    except (MalformedJson, ValidationFailed, UnicodeEncodeError):
        raise MalformedPacket from None
    fits = isinstance(content, list) and content and isinstance(content[0], str) if kind == EVENT else not id
    if not fits:
        raise MalformedPacket
    return Packet(kind, namespace or MAIN, id, content)


def connect_answer(id: str) -> str:
    """Return what tells a client that it is connected, under an id."""
    return CONNECT + json_of({"sid": id})


def connect_error(namespace: str, message: str, problem: Any = None) -> str:
    """Return what tells a client that it may not connect to a namespace; it hears of it as `connect_error`."""
    named = "" if namespace == MAIN else f"{namespace},"
    return CONNECT_ERROR + named + json_of({"message": message} | ({} if problem is None else {"data": problem}))


def acknowledged(id: str, answer: Any) -> str:
    """Return the answer to an event, by the id under which it is waited for."""
    return ACK + id + json_of([answer])


def document_of(problem: Problem, request_id: str) -> dict[str, Any]:
    """Return a problem as clients get it here: what would stand in the header `Retry-After` is a member."""
    after = problem.headers.get("Retry-After")
    return problem.as_dict(request_id) | ({} if after is None else {"retry_after": int(after)})


def json_of(value: Any) -> str:
    """Return a value as JSON."""
    return orjson.dumps(value).decode()


class Emitted(ServerSent):
    """Events of one subscription. Their items are those of server-sent events, so they are made once for all."""

    def __init__(self, id: str) -> None:
        """Take the id of the subscription."""
        self.id = json_of(id)

    def change(self, body: bytes, cursor: str) -> bytes:
        """Return the event of a change."""
        return self.event("change", cursor, b',"item":' + body)

    def caught_up(self, cursor: str) -> bytes:
        """Return the event that says that what was missed has been sent."""
        return self.event("caught_up", cursor)

    def resync(self, cursor: str) -> bytes:
        """Return the event that says that the client has to begin anew."""
        return self.event("resync", cursor)

    def alive(self, cursor: str) -> bytes:
        """Return nothing: Engine.IO has pings of its own."""
        return b""

    def event(self, name: str, cursor: str, more: bytes = b"") -> bytes:
        """Return an event; cursors need no escapes in JSON."""
        head = f'{EVENT}["{name}",{{"subscription":{self.id},"cursor":"{cursor}"'
        return head.encode() + more + f"}}]{SEPARATOR}".encode()
