"""What a process that decodes an image may ask of the kernel: nothing that reaches beyond its memory and its pipe.

Limits alone leave it a way to send signals to the other processes of its user, and to look into them. On Linux a filter
of seccomp (seccomp(2), BPF as in linux/filter.h) lets through the few system calls that decoding needs, and refuses
all others: what opens, connects, forks, traces, sends a signal. Elsewhere the limits are all there is.
"""

import ctypes
import os
import platform
import signal
import struct
import sys
from typing import Any

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 1, 38, 22
SECCOMP_MODE_FILTER = 2
KILL, REFUSE, UNKNOWN, ALLOW = 0x80000000, 0x00050001, 0x00050026, 0x7FFF0000
"""SECCOMP_RET_KILL_PROCESS; SECCOMP_RET_ERRNO with EPERM, and with ENOSYS; SECCOMP_RET_ALLOW."""
LOAD, EQUAL, HAS, RETURN = 0x20, 0x15, 0x45, 0x06
"""BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_JMP|BPF_JSET|BPF_K, BPF_RET|BPF_K."""
INSTRUCTION = struct.Struct("=HBBI")
"""`struct sock_filter`: code, how many to skip where it is true and where it is not, operand."""
NUMBER_AT, ARCHITECTURE_AT, FIRST_ARGUMENT_AT = 0, 4, 16
"""Where `struct seccomp_data` has the number of the call, the architecture, and half of the first argument."""
CALLS = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "lseek": (8, 62),
    "pread64": (17, 67),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "ioctl": (16, 29),
    "fcntl": (72, 25),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "clock_gettime": (228, 113),
    "gettimeofday": (96, 169),
    "getrandom": (318, 278),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "restart_syscall": (219, 128),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
"""Calls that are let through, by their numbers on x86-64 and on 64-bit ARM."""
CLONE, CLONE3 = (56, 220), (435, 435)
CLONE_THREAD = 0x10000
"""The decoder of HEIC needs a thread. `clone3` has its flags where no filter sees them; without it, `clone` is used."""
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Column of the table, and AUDIT_ARCH of the machine."""


class FilterProgram(ctypes.Structure):
    """`struct sock_fprog`: how many instructions there are, and where."""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def confine() -> bool:
    """Have the kernel refuse what decoding does not need, to this process for good; tell whether it does.

    Raises `OSError` where the kernel has a filter and does not take this one.
    """
    if sys.platform != "linux" or platform.machine() not in MACHINES:
        return False
    instructions = instructions_of(*MACHINES[platform.machine()])
    asked = FilterProgram(len(instructions) // INSTRUCTION.size, instructions)
    control(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0)
    control(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(asked))
    return True


def end_with_program(parent: int) -> bool:
    """Have this process end with the one that has forked it, on Linux; false where that has ended already."""
    if sys.platform == "linux":
        control(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0)
    return os.getppid() == parent


def control(option: int, value: ctypes.c_ulong, more: Any) -> None:
    """Ask the kernel for something about this process (prctl(2)). Raises `OSError`."""
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, more, 0, 0):
        raise OSError(ctypes.get_errno(), f"the kernel refuses option {option} of prctl")


def instructions_of(column: int, architecture: int) -> bytes:
    """Return the instructions of the filter for a machine."""
    numbers = [row[column] for row in CALLS.values()]
    steps = [
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER_AT),
        *((EQUAL, len(numbers) - place + 5, 0, number) for place, number in enumerate(numbers)),
        (EQUAL, 0, 1, CLONE3[column]),
        (RETURN, 0, 0, UNKNOWN),
        (EQUAL, 0, 2, CLONE[column]),
        (LOAD, 0, 0, FIRST_ARGUMENT_AT),
        (HAS, 1, 0, CLONE_THREAD),
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, ALLOW),
    ]
    return b"".join(INSTRUCTION.pack(*step) for step in steps)
