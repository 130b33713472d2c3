"""ptrace(2), as far as watching needs it. python-ptrace is used here and nowhere else.

Of it only its ptrace() is used: its debugger polls where there are several tracees, and it knows PTRACE_ATTACH alone,
which loses stops of job control. PTRACE_SEIZE keeps them. A tracee that is gone or not stopped raises OSError ESRCH.
"""

from __future__ import annotations

import ctypes
import errno
import signal

from kvmprobe.host.sonames import BySoname
from kvmprobe.model.errors import Problem

with BySoname():
    from ptrace import PtraceError, __version__
    from ptrace.binding.func import (
        PTRACE_CONT,
        PTRACE_DETACH,
        PTRACE_EVENT_CLONE,
        PTRACE_EVENT_EXEC,
        PTRACE_EVENT_FORK,
        PTRACE_EVENT_VFORK,
        PTRACE_GETEVENTMSG,
        PTRACE_O_TRACECLONE,
        PTRACE_O_TRACEEXEC,
        PTRACE_O_TRACEFORK,
        PTRACE_O_TRACESYSGOOD,
        PTRACE_O_TRACEVFORK,
        PTRACE_SYSCALL,
        ptrace,
    )

SOURCE = f"python-ptrace {__version__}"

# linux/ptrace.h, what python-ptrace does not name
_PTRACE_SEIZE = 0x4206
_PTRACE_INTERRUPT = 0x4207
_PTRACE_LISTEN = 0x4208
_PTRACE_GET_SYSCALL_INFO = 0x420E  # since Linux 5.3
SYSCALL_INFO_ENTRY = 1
SYSCALL_INFO_EXIT = 2

# What a stop is: status >> 16 of waitpid().
EVENT_STOP = 128
EVENT_EXEC = PTRACE_EVENT_EXEC
EVENTS_OF_A_NEW_TASK = (PTRACE_EVENT_FORK, PTRACE_EVENT_VFORK, PTRACE_EVENT_CLONE)
SYSCALL_STOP = signal.SIGTRAP | 0x80

_OPTIONS = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC


class ptrace_syscall_info(ctypes.Structure):
    """`words`: of an entry the number and six arguments; of an exit the answer and whether it is an error."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("stack_pointer", ctypes.c_uint64),
        ("words", ctypes.c_uint64 * 8),
    )


def _request(request: int, tid: int, address: int = 0, data: int = 0) -> None:
    try:
        ptrace(request, tid, address, data)
    except PtraceError as error:
        raise OSError(error.errno, str(error)) from error


def seize(tid: int) -> None:
    """Traces it from now on, without stopping it; also the threads, children and programs that come of it.

    Not PTRACE_O_EXITKILL: if kvmprobe is killed, its tracees run on.
    """
    _request(_PTRACE_SEIZE, tid, 0, _OPTIONS)


def interrupt(tid: int) -> None:
    """Stops it soon (EVENT_STOP)."""
    _request(_PTRACE_INTERRUPT, tid)


def proceed(tid: int, signum: int = 0) -> None:
    """Goes on, with the signal, to whatever stops it next."""
    _request(PTRACE_CONT, tid, 0, signum)


def to_syscall(tid: int, signum: int = 0) -> None:
    """Goes on, with the signal, to the entry or exit of a system call at the latest."""
    _request(PTRACE_SYSCALL, tid, 0, signum)


def listen(tid: int) -> None:
    """Leaves it stopped as job control wants it, until SIGCONT."""
    _request(_PTRACE_LISTEN, tid)


def detach(tid: int, signum: int = 0) -> None:
    _request(PTRACE_DETACH, tid, 0, signum)


def event_message(tid: int) -> int:
    """Of a new task its number, of an exec the thread's former number."""
    message = ctypes.c_ulong()
    _request(PTRACE_GETEVENTMSG, tid, 0, ctypes.addressof(message))
    return message.value


def syscall_info(tid: int) -> ptrace_syscall_info:
    """The system call at whose entry or exit it stands, of whatever ABI (32-bit, x32)."""
    info = ptrace_syscall_info()
    try:
        _request(_PTRACE_GET_SYSCALL_INFO, tid, ctypes.sizeof(info), ctypes.addressof(info))
    except OSError as error:
        if error.errno == errno.EIO:
            raise Problem("this kernel cannot tell a tracer about system calls (Linux 5.3 and later can)") from error
        raise
    return info
