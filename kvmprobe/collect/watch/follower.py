"""Follows processes with all their threads and children. Every stop is answered: no tracee is left stopped."""

from __future__ import annotations

import errno
import os
import signal
import time

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.watch import kvm_ioctls, ptrace_calls
from kvmprobe.collect.watch.tracees import TracedProcess, TracedThread
from kvmprobe.host.processes import status_field
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.signals import ENDING_SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from kvmprobe.collect.watch.blocked_signals import BlockedSignals
    from kvmprobe.collect.watch.tracees import Observer


_WALL = 0x40000000  # __WALL of linux/wait.h: threads, too.
_STOP_SIGNALS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_IDLE_S = 1.0
_DETACH_DEADLINE_S = 5.0


class Follower:
    """Follows the process `main`, which kvmprobe started (`started`) or which ran before.

    After `run`: `ended` ("exited", "killed", "detached") and `status` (exit status or signal number) of `main`;
    `ending_signal`: the signal that asked kvmprobe to end; `remaining_pids`: the processes that run on without
    kvmprobe; `process_count`: how many were followed in all.
    """

    def __init__(self, root: Sysroot, observer: Observer, signals: BlockedSignals, main: int, started: bool) -> None:
        self._root = root
        self._observer = observer
        self._signals = signals
        self.main = main
        self._started = started
        self._threads: dict[int, TracedThread] = {}
        self._processes: dict[int, TracedProcess] = {}
        self._detaching = False
        self._not_stopped_yet: set[int] = set()
        self._on_all_stopped: Callable[[], None] = lambda: None
        self.process_count = 0
        self.ended = "detached"
        self.status: int | None = None
        self.ending_signal: int | None = None
        self.remaining_pids: list[int] = []

    def seize(self, tid: int, watched: bool = True) -> None:
        """Trace a thread. Its system calls are watched after its next stop, if `watched`. Raises OSError."""
        ptrace_calls.seize(tid)
        self._add(tid, watched)

    def interrupt(self, tids: Collection[int], on_all_stopped: Callable[[], None]) -> None:
        """Stop each of these threads once, so that its system calls are watched from then on.

        `on_all_stopped` is called when every one of them has stopped or ended.
        """
        self._not_stopped_yet, self._on_all_stopped = set(tids), on_all_stopped
        for tid in tids:
            try:
                ptrace_calls.interrupt(tid)
            except OSError:
                pass  # It has ended: waitpid() will report it.

    def _add(self, tid: int, watched: bool = True) -> TracedThread:
        # The Tgid of a thread is its process. Where the thread is gone already, it stands for itself.
        pid = int(status_field(self._root, tid, "Tgid") or tid)
        if pid not in self._processes:
            self._processes[pid] = TracedProcess(pid, watched)
            self.process_count += 1
        self._threads[tid] = TracedThread(tid, self._processes[pid])
        self._observer.thread_found(tid, pid)
        return self._threads[tid]

    def run(self) -> None:
        """Follow until every process has ended, or a signal asks kvmprobe to end; then detach from all."""
        try:
            while self._threads and self._handle_next():
                pass
            while (received := self._signals.wait(0)) is not None:  # It arrived with the end, as Ctrl-C does.
                if received.si_signo in ENDING_SIGNALS:
                    self.ending_signal = received.si_signo
        finally:
            self.detach()

    def _handle_next(self) -> bool:
        """Handle one change of a tracee or one signal. False: stop following."""
        try:
            tid, status = os.waitpid(-1, os.WNOHANG | _WALL)
        except ChildProcessError:
            self._threads.clear()
            return False
        if tid:
            self._handle_change(tid, status)
            return True
        received = self._signals.wait(_IDLE_S)
        if received is None:
            self._observer.idle()
        elif received.si_signo in ENDING_SIGNALS:
            return self._handle_ending_signal(received)
        return True

    def _handle_ending_signal(self, received: signal.struct_siginfo) -> bool:
        """Pass the signal on to a command that kvmprobe started. False where the processes are to run on instead.

        They run on where kvmprobe attached to them, and where the command has ended and left children behind.
        """
        self.ending_signal = received.si_signo
        if not self._started or self.ended != "detached":
            return False
        if received.si_code <= 0:  # By a process. A signal of the kernel, as Ctrl-C, has reached the command already.
            os.kill(self.main, received.si_signo)
        return True

    def _handle_change(self, tid: int, status: int) -> None:
        if os.WIFSTOPPED(status):
            thread = self._threads.get(tid) or self._add(tid)  # A new task may stop before its parent's event arrives.
            try:
                self._handle_stop(thread, os.WSTOPSIG(status), status >> 16)
            except OSError as error:
                if error.errno != errno.ESRCH:  # ESRCH: it was killed while it stood.
                    raise
        else:
            self._handle_end(tid, status)
        if tid in self._not_stopped_yet:
            self._not_stopped_yet.remove(tid)
            if not self._not_stopped_yet:
                self._on_all_stopped()

    def _handle_stop(self, thread: TracedThread, signum: int, event: int) -> None:
        tid = thread.tid
        if self._detaching:
            ptrace_calls.detach(tid, 0 if event or signum == ptrace_calls.SYSCALL_STOP else signum)
            self._remove(tid)
        elif event == ptrace_calls.EVENT_STOP and signum in _STOP_SIGNALS:
            ptrace_calls.listen(tid)
        elif event:
            if event == ptrace_calls.EVENT_EXEC:
                self._handle_exec(thread)
            elif event in ptrace_calls.EVENTS_OF_A_NEW_TASK:
                new = ptrace_calls.event_message(tid)
                if new not in self._threads and self._is_traced_by_us(new):  # Else it has stopped and ended already.
                    self._add(new)
            self._resume(thread)
        elif signum == ptrace_calls.SYSCALL_STOP:
            self._handle_syscall(thread)
            self._resume(thread)
        else:
            self._resume(thread, signum)

    def _is_traced_by_us(self, tid: int) -> bool:
        return status_field(self._root, tid, "TracerPid") == str(os.getpid())

    def _resume(self, thread: TracedThread, signum: int = 0) -> None:
        if thread.process.watched:
            ptrace_calls.resume_to_syscall(thread.tid, signum)
        else:
            ptrace_calls.resume(thread.tid, signum)

    def _handle_exec(self, thread: TracedThread) -> None:
        """A new program: the other threads are gone, and the thread that called execve() has the PID as its TID now."""
        former = ptrace_calls.event_message(thread.tid)
        if former != thread.tid:
            self._threads.pop(former, None)
        thread.call = None
        thread.process.watched = True

    def _handle_syscall(self, thread: TracedThread) -> None:
        process = thread.process
        if not process.watched:
            return  # Another thread has made the last call of interest.
        info = ptrace_calls.syscall_info(thread.tid)
        if info.op == ptrace_calls.SYSCALL_INFO_ENTRY:
            thread.call = None
            found = kvm_ioctls.recognize(thread.tid, info)
            if found:
                thread.call = self._observer.call_entered(thread.tid, process.pid, found)
            elif not kvm_ioctls.is_known_abi(info):
                self._observer.unknown_abi(process.pid)
        elif info.op == ptrace_calls.SYSCALL_INFO_EXIT and thread.call is not None:
            call, thread.call = thread.call, None
            if self._observer.call_returned(call, kvm_ioctls.answer_of(info)):
                process.watched = False

    def _handle_end(self, tid: int, status: int) -> None:
        if tid == self.main:
            killed = os.WIFSIGNALED(status)
            self.ended = "killed" if killed else "exited"
            self.status = os.WTERMSIG(status) if killed else os.WEXITSTATUS(status)
        self._remove(tid)

    def _remove(self, tid: int) -> None:
        thread = self._threads.pop(tid, None)
        if thread is not None and all(other.process is not thread.process for other in self._threads.values()):
            self._processes.pop(thread.process.pid, None)

    def detach(self) -> None:
        """Stop each thread for a moment, which a detach requires, and detach from it.

        Where a thread cannot stop in time, the kernel detaches it when kvmprobe ends.
        """
        self._detaching = True
        self.remaining_pids = list(self._processes)
        for tid in list(self._threads):
            try:
                ptrace_calls.interrupt(tid)
            except OSError:
                pass  # It is gone: waitpid() will report it.
        ends = time.monotonic() + _DETACH_DEADLINE_S
        while self._threads and time.monotonic() < ends:
            try:
                tid, status = os.waitpid(-1, os.WNOHANG | _WALL)
            except ChildProcessError:
                break
            if tid:
                self._handle_change(tid, status)
            else:
                self._signals.wait(0.1)
