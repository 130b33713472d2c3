"""ptrace(2), as far as watching needs it. No other module uses python-ptrace.

Only its ptrace() is used. Its debugger polls where there are several tracees, and uses PTRACE_ATTACH, which loses the
stops of job control. PTRACE_SEIZE keeps them. Every function raises OSError; ESRCH: the tracee is gone, or it runs.
"""

from __future__ import annotations

import ctypes
import errno
import signal

from kvmprobe.host.stand_ins import FIND_LIBRARY, StandIns
from kvmprobe.model.errors import Problem

with StandIns(FIND_LIBRARY):
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

# linux/ptrace.h: constants that python-ptrace does not have
_PTRACE_SEIZE = 0x4206
_PTRACE_INTERRUPT = 0x4207
_PTRACE_LISTEN = 0x4208
_PTRACE_GET_SYSCALL_INFO = 0x420E  # since Linux 5.3
SYSCALL_INFO_ENTRY = 1
SYSCALL_INFO_EXIT = 2

# The kind of a stop: status >> 16 of waitpid().
EVENT_STOP = 128
EVENT_EXEC = PTRACE_EVENT_EXEC
EVENTS_OF_A_NEW_TASK = (PTRACE_EVENT_FORK, PTRACE_EVENT_VFORK, PTRACE_EVENT_CLONE)
SYSCALL_STOP = signal.SIGTRAP | 0x80

_OPTIONS = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC


class ptrace_syscall_info(ctypes.Structure):
    """`struct ptrace_syscall_info` of linux/ptrace.h.

    `words`: the union. At an entry: number and six arguments. At an exit: return value and whether it is an error.
    """

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
    """Trace a thread without stopping it, and every thread, child and program that comes of it.

    Without PTRACE_O_EXITKILL: where kvmprobe is killed, its tracees run on.
    """
    _request(_PTRACE_SEIZE, tid, 0, _OPTIONS)


def interrupt(tid: int) -> None:
    """Have a running thread stop soon (EVENT_STOP)."""
    _request(_PTRACE_INTERRUPT, tid)


def resume(tid: int, signum: int = 0) -> None:
    """Resume a stopped thread, with a signal, until anything but a system call stops it."""
    _request(PTRACE_CONT, tid, 0, signum)


def resume_to_syscall(tid: int, signum: int = 0) -> None:
    """Resume a stopped thread, with a signal, until the entry or exit of a system call at the latest."""
    _request(PTRACE_SYSCALL, tid, 0, signum)


def listen(tid: int) -> None:
    """Leave a thread stopped, as job control demands, until SIGCONT."""
    _request(_PTRACE_LISTEN, tid)


def detach(tid: int, signum: int = 0) -> None:
    """Resume a stopped thread, with a signal, and trace it no longer."""
    _request(PTRACE_DETACH, tid, 0, signum)


def event_message(tid: int) -> int:
    """Return the number of an event: the TID of a new task, or the former TID of a thread that called execve()."""
    message = ctypes.c_ulong()
    _request(PTRACE_GETEVENTMSG, tid, 0, ctypes.addressof(message))
    return message.value


def syscall_info(tid: int) -> ptrace_syscall_info:
    """Return the system call at whose entry or exit a thread stands, in whatever ABI (64 bit, 32 bit, x32).

    Raises Problem where the kernel has no PTRACE_GET_SYSCALL_INFO.
    """
    info = ptrace_syscall_info()
    try:
        _request(_PTRACE_GET_SYSCALL_INFO, tid, ctypes.sizeof(info), ctypes.addressof(info))
    except OSError as error:
        if error.errno == errno.EIO:
            raise Problem("this kernel has no PTRACE_GET_SYSCALL_INFO (Linux 5.3 and later have it)") from error
        raise
    return info
