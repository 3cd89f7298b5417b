"""One request and its reply in MongoDB's wire protocol: a command as an OP_MSG over a connection of PyMongo's."""

import time
from itertools import count
from struct import Struct
from typing import Any

OP_MSG = 2013
HEADER = Struct("<iiiiIB")
"""Length, request id, id of the request that a reply is to, opcode, flags, kind of the first section."""
FIRST_READ = 64 * 1024

request_ids = count(1)


def exchange(sock: Any, command: bytes, deadline: float) -> memoryview:
    """Send the BSON of a command and return that of its reply, at the latest at `deadline` of the monotonic clock.

    The socket has a timeout of its own, for a reply that does not begin. Raises `OSError` for all that goes wrong: then
    the connection has to be closed, so that what is left of this exchange is not taken for the reply to the next one.
    """
    request_id = next(request_ids) & 0x7FFFFFFF
    sock.sendall(HEADER.pack(HEADER.size + len(command), request_id, 0, OP_MSG, 0, 0) + command)
    return receive(sock, request_id, deadline)


def receive(sock: Any, request_id: int, deadline: float) -> memoryview:
    """Return the BSON of the one message that is the reply to `request_id`; raises `OSError` for any other one."""
    data = some(sock.recv(FIRST_READ))
    while len(data) < HEADER.size:
        data += some(sock.recv(FIRST_READ))
    length, _, reply_to, opcode, flags, kind = HEADER.unpack_from(data)
    if (reply_to, opcode, flags, kind) != (request_id, OP_MSG, 0, 0) or len(data) > length:
        raise OSError("this message is not the reply")
    if len(data) == length:
        return memoryview(data)[HEADER.size :]
    whole = memoryview(bytearray(length))
    whole[: len(data)] = data
    have = len(data)
    while have < length:
        if time.monotonic() > deadline:
            raise TimeoutError("the reply did not come in time")
        have += some(sock.recv_into(whole[have:]))
    return whole[HEADER.size :]


def some(received: Any) -> Any:
    """Return what was received; raises `OSError` when it is nothing, for the other side has closed the connection."""
    if not received:
        raise OSError("the connection was closed")
    return received
