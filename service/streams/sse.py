"""Server-sent events (the HTML standard, section 9.2), as live events are written for `/v1/live`."""

import orjson

from service.changes.pull import as_json
from service.model.record_type import RecordType
from service.mongo.raw import Raw


class ServerSent:
    """Events of a name, with JSON that has no line break, and the cursor as their id."""

    name = "sse"

    def body(self, type: RecordType, id: str, row: Raw | None, gone: str) -> bytes:
        """Return the item of a record."""
        return orjson.dumps(as_json(type, id, row, gone))

    def change(self, body: bytes, cursor: str) -> bytes:
        """Return the event of a change."""
        return b"id: %b\nevent: change\ndata: %b\n\n" % (cursor.encode(), body)

    def caught_up(self, cursor: str) -> bytes:
        """Return the event that says that what was missed has been sent."""
        return f"id: {cursor}\nevent: caught_up\ndata: {{}}\n\n".encode()

    def resync(self, cursor: str) -> bytes:
        """Return the event that says that the client has to begin anew."""
        return f"id: {cursor}\nevent: resync\ndata: {{}}\n\n".encode()

    def alive(self, cursor: str) -> bytes:
        """Return a comment; the id with it is where the client has come to, although it was told nothing."""
        return f": alive\nid: {cursor}\n\n".encode()
