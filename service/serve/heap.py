"""How the C library keeps what a worker has freed."""

import ctypes

# Of <malloc.h>.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8

LARGE = 96 * 2**10
"""Bytes from which on a block is given back to the system when it is freed.

More than the 64 KiB into which each reply of MongoDB is received: those are taken anew with every request. Texts of
100 kB in a heap of their own leave it full of holes: after a list of a hundred a worker had 7 to 15 MB more, and 5 so.
"""
SPARE = 2 * 2**20
"""Bytes free at the end of the heap that are kept for the next request: to give back less costs more than it brings."""


def limit() -> None:
    """Let glibc give large blocks back, and keep one heap for all threads; any other C library stays as it is.

    Left to itself, glibc takes the first 19 MiB that argon2 frees for a sign that more will be wanted: from then on
    such blocks lie in the heap of the thread, and stay there. Heaps of their own are for threads that allocate at the
    same moment; here the interpreter lets one at a time, and what one has freed the others could not use.

    Call it before memory is used. Processes that are forked later have it too.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for option, value in ((M_MMAP_THRESHOLD, LARGE), (M_TRIM_THRESHOLD, SPARE), (M_ARENA_MAX, 1)):
        mallopt(option, value)
