"""Follows processes with all their threads and children: every stop is answered, no tracee is left stopped."""

from __future__ import annotations

import errno
import os
import signal
import time

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.watch import kvm_ioctls, ptrace_calls
from kvmprobe.collect.watch.blocked_signals import ENDING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Protocol

    from kvmprobe.collect.watch.blocked_signals import Signals
    from kvmprobe.model.evidence import Answer, Snapshot, WatchedCall

    class Witness(Protocol):
        """Who is told what is seen while a thread stands."""

        def found(self, tid: int, pid: int) -> None: ...
        def entered(self, tid: int, pid: int, name: str, request: int, argument: int) -> Call: ...
        def returned(self, call: Call, answer: Answer) -> bool:
            """Whether the process has shown all that is of interest."""

        def unknown_abi(self, pid: int) -> None: ...
        def idle(self) -> None: ...


_WALL = 0x40000000  # linux/wait.h: threads as well
_STOPPING = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_TICK_S = 1.0
_DETACH_S = 5.0


class Call:
    """A call that has begun: as it stands in evidence, and all the registers at its entry."""

    def __init__(self, seen: WatchedCall, entry: Snapshot) -> None:
        self.seen = seen
        self.entry = entry


class Process:
    """`watched`: its threads stop at system calls."""

    def __init__(self, pid: int, watched: bool = True) -> None:
        self.pid = pid
        self.watched = watched


class Thread:
    """`call`: the ioctl of interest that it is in."""

    def __init__(self, tid: int, process: Process) -> None:
        self.tid = tid
        self.process = process
        self.call: Call | None = None


class Follower:
    """Follows the process `main`, which is `started` by us or was there before.

    After `run`: `ended` ("exited", "killed", "detached") and `status` of `main`; `signalled`: the signal that told us
    to end; `left`: the processes that run on without us.
    """

    def __init__(self, witness: Witness, signals: Signals, main: int, started: bool) -> None:
        self._witness = witness
        self._signals = signals
        self.main = main
        self._started = started
        self._threads: dict[int, Thread] = {}
        self._processes: dict[int, Process] = {}
        self._detaching = False
        self._awaited: set[int] = set()
        self._attached: Callable[[], None] = lambda: None
        self.followed = 0
        self.ended = "detached"
        self.status: int | None = None
        self.signalled: int | None = None
        self.left: list[int] = []

    def seize(self, tid: int, watched: bool = True) -> None:
        """Takes a thread, whose system calls are `watched` from its next stop on. Raises OSError."""
        ptrace_calls.seize(tid)
        self._add(tid, watched)

    def interrupt(self, tids: Collection[int], attached: Callable[[], None]) -> None:
        """Makes each of these threads stop once, for only then its system calls are seen; then calls `attached`."""
        self._awaited, self._attached = set(tids), attached
        for tid in tids:
            try:
                ptrace_calls.interrupt(tid)
            except OSError:
                pass  # it has ended, as waitpid() will say

    def _add(self, tid: int, watched: bool = True) -> Thread:
        pid = _process_of(tid)
        if pid not in self._processes:
            self._processes[pid] = Process(pid, watched)
            self.followed += 1
        self._threads[tid] = Thread(tid, self._processes[pid])
        self._witness.found(tid, pid)
        return self._threads[tid]

    def run(self) -> None:
        """Until all that is followed has ended, or a signal makes us let go."""
        try:
            while self._threads and self._next():
                pass
            while (received := self._signals.wait(0)) is not None:  # which came with the end, as of a Ctrl-C
                if received.si_signo in ENDING:
                    self.signalled = received.si_signo
        finally:
            self.detach()

    def _next(self) -> bool:
        """One change of a tracee or one signal; False when there is nothing left to wait for."""
        try:
            tid, status = os.waitpid(-1, os.WNOHANG | _WALL)
        except ChildProcessError:
            self._threads.clear()
            return False
        if tid:
            self._changed(tid, status)
            return True
        received = self._signals.wait(_TICK_S)
        if received is None:
            self._witness.idle()
        elif received.si_signo in ENDING:
            return self._told_to_end(received)
        return True

    def _told_to_end(self, received: signal.struct_siginfo) -> bool:
        """Passes the signal on to the command that we started; lets go of what we did not, or what it left behind."""
        self.signalled = received.si_signo
        if not self._started or self.ended != "detached":
            return False
        if received.si_code <= 0:  # not the kernel's, as from a terminal, where the command has it already
            os.kill(self.main, received.si_signo)
        return True

    def _changed(self, tid: int, status: int) -> None:
        if os.WIFSTOPPED(status):
            thread = self._threads.get(tid) or self._add(tid)  # a new task may come before its parent's event
            try:
                self._stopped(thread, os.WSTOPSIG(status), status >> 16)
            except OSError as error:
                if error.errno != errno.ESRCH:  # killed while it stood
                    raise
        else:
            self._gone(tid, status)
        if tid in self._awaited:
            self._awaited.remove(tid)
            if not self._awaited:
                self._attached()

    def _stopped(self, thread: Thread, signum: int, event: int) -> None:
        tid = thread.tid
        if self._detaching:
            ptrace_calls.detach(tid, 0 if event or signum == ptrace_calls.SYSCALL_STOP else signum)
            self._forget(tid)
        elif event == ptrace_calls.EVENT_STOP and signum in _STOPPING:
            ptrace_calls.listen(tid)
        elif event:
            if event == ptrace_calls.EVENT_EXEC:
                self._executed(thread)
            elif event in ptrace_calls.EVENTS_OF_A_NEW_TASK:
                new = ptrace_calls.event_message(tid)
                if new not in self._threads and _is_ours(new):  # else it has come, been seen and gone already
                    self._add(new)
            self._go_on(thread)
        elif signum == ptrace_calls.SYSCALL_STOP:
            self._at_syscall(thread)
            self._go_on(thread)
        else:
            self._go_on(thread, signum)

    def _go_on(self, thread: Thread, signum: int = 0) -> None:
        if thread.process.watched:
            ptrace_calls.to_syscall(thread.tid, signum)
        else:
            ptrace_calls.proceed(thread.tid, signum)

    def _executed(self, thread: Thread) -> None:
        """A new program: the other threads are gone, and whichever made the call has the process's number now."""
        former = ptrace_calls.event_message(thread.tid)
        if former != thread.tid:
            self._threads.pop(former, None)
        thread.call = None
        thread.process.watched = True

    def _at_syscall(self, thread: Thread) -> None:
        process = thread.process
        if not process.watched:
            return  # another thread has shown all
        info = ptrace_calls.syscall_info(thread.tid)
        if info.op == ptrace_calls.SYSCALL_INFO_ENTRY:
            thread.call = None
            found = kvm_ioctls.recognise(thread.tid, info)
            if found:
                thread.call = self._witness.entered(thread.tid, process.pid, *found)
            elif not kvm_ioctls.knows(info):
                self._witness.unknown_abi(process.pid)
        elif info.op == ptrace_calls.SYSCALL_INFO_EXIT and thread.call is not None:
            call, thread.call = thread.call, None
            if self._witness.returned(call, kvm_ioctls.answer(info)):
                process.watched = False

    def _gone(self, tid: int, status: int) -> None:
        if tid == self.main:
            killed = os.WIFSIGNALED(status)
            self.ended = "killed" if killed else "exited"
            self.status = os.WTERMSIG(status) if killed else os.WEXITSTATUS(status)
        self._forget(tid)

    def _forget(self, tid: int) -> None:
        thread = self._threads.pop(tid, None)
        if thread is not None and all(other.process is not thread.process for other in self._threads.values()):
            self._processes.pop(thread.process.pid, None)

    def detach(self) -> None:
        """Stops each thread for a moment, for only then it can be let go; what cannot stop now is let go by the kernel
        when we end."""
        self._detaching = True
        self.left = list(self._processes)
        for tid in list(self._threads):
            try:
                ptrace_calls.interrupt(tid)
            except OSError:
                pass  # it is gone, as waitpid() will say
        ends = time.monotonic() + _DETACH_S
        while self._threads and time.monotonic() < ends:
            try:
                tid, status = os.waitpid(-1, os.WNOHANG | _WALL)
            except ChildProcessError:
                break
            if tid:
                self._changed(tid, status)
            else:
                self._signals.wait(0.1)


def _process_of(tid: int) -> int:
    """The process (thread group) of a thread; the thread itself where that is gone."""
    return _status(tid, "Tgid:") or tid


def _is_ours(tid: int) -> bool:
    return _status(tid, "TracerPid:") == os.getpid()


def _status(tid: int, field: str) -> int | None:
    """A number in /proc/TID/status."""
    try:
        with open(f"/proc/{tid}/status", encoding="utf-8", errors="replace") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(field)), None)
    except OSError:
        return None
