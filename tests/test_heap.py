"""What a process keeps of the memory that it has freed."""

import ctypes
import platform
import subprocess
import sys

import pytest

from service.serve import heap

GLIBC = platform.libc_ver()[0] == "glibc"
HASHES = """
import ctypes, sys, threading
from service.serve import heap
from service.identity.passwords import Hashing

if sys.argv[1] == "limited":
    heap.limit()

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in "arena a b c d e f g free h".split()]

mallinfo = ctypes.CDLL(None).mallinfo
mallinfo.restype = Info
hashing = Hashing(1)
for _ in range(3):
    hashing.hash("a long pass phrase")
    Hashing(1)
print(mallinfo().free)
"""


def free_after_hashes(how: str) -> int:
    """Bytes that a process has free in its heap after it has hashed passwords on two threads."""
    done = subprocess.run([sys.executable, "-c", HASHES, how], capture_output=True, text=True, check=True, timeout=60)
    return int(done.stdout)


@pytest.mark.skipif(not GLIBC, reason="other C libraries have no such options")
def test_the_memory_of_a_hash_goes_back_to_the_system() -> None:
    assert free_after_hashes("limited") < 4 * 2**20 < free_after_hashes("as it is")


def test_a_c_library_without_such_limits_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    heap.limit()
