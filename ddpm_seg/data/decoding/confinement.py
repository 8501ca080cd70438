"""Confines a process to memory, time and the files it has open: no other files, network, programs or processes.

Linux only, with seccomp: a list of allowed system calls that the kernel enforces and not even root can undo. No library
is used for these few lines: pyseccomp was last released in 2021 and needs a libseccomp.so on the machine, and the
Landlock bindings leave ptrace, signals and UDP open.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

# By name: the call's number on x86_64 and on aarch64.
_ALLOWED = {
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "lseek": (8, 62),
    "close": (3, 57),
    "fstat": (5, 80),
    "brk": (12, 214),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "futex": (202, 98),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getrandom": (318, 278),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getrusage": (98, 165),
    "gettimeofday": (96, 169),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "restart_syscall": (219, 128),
    "setitimer": (38, 103),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
# Allowed only if an argument has none of the given bits: (numbers, index of the argument, bits).
_PROT_EXEC, _CLONE_THREAD = 4, 0x10000
_ALLOWED_WITHOUT = {
    "mmap": ((9, 222), 2, _PROT_EXEC),  # no new machine code
    "mprotect": ((10, 226), 2, _PROT_EXEC),
    "prlimit64": ((302, 261), 0, 0xFFFFFFFF),  # pid 0: only its own limits
}
# Allowed only if it has the bit: threads, which HEIC's decoder starts, but no processes.
_ALLOWED_WITH = {"clone": ((56, 220), 0, _CLONE_THREAD)}
# Reported as missing, so that the C library falls back on clone, whose flags a filter can see.
_ABSENT = {"clone3": (435, 435)}

# By machine: column above, audit number of the architecture, number of the system call seccomp.
_MACHINES = {"x86_64": (0, 0xC000003E, 317), "aarch64": (1, 0xC00000B7, 277)}

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_SECCOMP_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_RETURN_ALLOW, _RETURN_ERRNO = 0x7FFF0000, 0x00050000

# Classic Berkeley Packet Filter: load a word of the call's description, jump, return.
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE, _OFFSET_ARGUMENTS = 0, 4, 16


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def confine() -> str | None:
    """Confines this process with all its threads, irrevocably. Everything it still needs must already be imported and
    open.

    Refused calls fail with EPERM. Returns None, or the reason if the process cannot be confined.
    """
    if sys.platform != "linux":
        return f"there is no seccomp on {sys.platform}"
    machine = platform.machine()
    if machine not in _MACHINES or sys.maxsize < 2**32:
        return f"no list of system calls for {machine}"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return f"prctl(PR_SET_NO_NEW_PRIVS): {os.strerror(ctypes.get_errno())}"
    code = _filter(machine)
    program = _Program(len(code) // 8, code)
    call = _MACHINES[machine][2]
    if libc.syscall(call, _SECCOMP_SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(program)) != 0:
        return f"seccomp: {os.strerror(ctypes.get_errno())}"
    return None


def hide_memory_and_environment() -> None:
    """Hides this process's memory and /proc/PID/environ from other processes of the same user, though not from root's.

    The price: no core dumps, and py-spy and Ray's agent cannot read this process without root.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _filter(machine: str) -> bytes:
    column, architecture, _ = _MACHINES[machine]
    refuse = _instruction(_RETURN, _RETURN_ERRNO | errno.EPERM)
    allow = _instruction(_RETURN, _RETURN_ALLOW)
    code = [
        _instruction(_LOAD, _OFFSET_ARCHITECTURE),
        _instruction(_JUMP_IF_EQUAL, architecture, if_true=1),
        refuse,
        _instruction(_LOAD, _OFFSET_NUMBER),
    ]
    for numbers in _ALLOWED.values():
        code += [_instruction(_JUMP_IF_EQUAL, numbers[column], if_false=1), allow]
    for numbers in _ABSENT.values():
        code += [
            _instruction(_JUMP_IF_EQUAL, numbers[column], if_false=1),
            _instruction(_RETURN, _RETURN_ERRNO | errno.ENOSYS),
        ]
    for calls, with_bits, without in ((_ALLOWED_WITHOUT, refuse, allow), (_ALLOWED_WITH, allow, refuse)):
        for numbers, argument, bits in calls.values():
            code += [
                _instruction(_JUMP_IF_EQUAL, numbers[column], if_false=4),
                # The low half, which holds all of an int or of flags.
                _instruction(_LOAD, _OFFSET_ARGUMENTS + 8 * argument),
                _instruction(_JUMP_IF_ANY_BIT, bits, if_false=1),
                with_bits,
                without,
            ]
    return b"".join([*code, refuse])


def _instruction(operation: int, value: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, if_true, if_false, value)
