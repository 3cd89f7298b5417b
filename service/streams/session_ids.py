"""How a door finds the process that has a session of Engine.IO: by what the session's id begins with.

The door knows of it too, so this is apart from the library, which takes 6 MB of each process that imports it.
"""

import hashlib

REACHED_AT = "x-streams-address"
"""The header in which a door before several processes says where it has found this one."""


def process_tag(address: str) -> str:
    """Return what the ids of sessions begin with in the process that a door reaches at an address."""
    return f"{hashlib.blake2b(address.encode(), digest_size=6).hexdigest()}-"
