"""A child process that frees kvmprobe from a CPU on which it does not get to run.

A task that pins itself to a CPU waits there for the scheduler. Where a SCHED_FIFO task never sleeps, it waits for ever:
inside sched_setaffinity(), deaf to every signal, with its VM open. Only another process can help, by giving it more
CPUs again (__set_cpus_allowed_ptr() in kernel/sched/core.c moves a waiting task at once).
"""

from __future__ import annotations

import mmap
import os
import select
import time

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.background_child import BackgroundChild

if TYPE_CHECKING:
    from collections.abc import Set

TICK_S = 0.1
STARVED_S = 2.0

# The bytes of the memory that both processes share.
_STEP, _PINNED, _FREED, _ENDED = 0, 1, 2, 3


class PinWatcher:
    """Pins the main thread of this process to one CPU after the other, within `with`, while a child watches it.

    The child frees the thread when it has made no step for STARVED_S. It counts the ticks in which this process could
    have run: while it is stopped (SIGSTOP, a frozen cgroup, a suspended host), nothing counts. On exit the thread has
    the CPU affinity of before. Raises OSError where no process or pipe can be had.
    """

    def __enter__(self) -> PinWatcher:
        self._affinity = os.sched_getaffinity(0)
        self._shared = mmap.mmap(-1, mmap.PAGESIZE)
        watched = os.getpid()
        self._child = BackgroundChild(lambda released: _watch(self._shared, watched, self._affinity, released))
        return self

    def __exit__(self, *_: object) -> None:
        self.unpin()
        self._shared[_ENDED] = 1
        self._child.release()
        self._child.wait()

    def pin(self, cpu: int) -> None:
        """Move to `cpu` and stay there. Raises OSError: the CPU is offline, or outside the cpuset."""
        self._shared[_FREED] = 0
        self.step()
        self._shared[_PINNED] = 1
        os.sched_setaffinity(0, {cpu})

    def step(self) -> None:
        """Show the child that this process runs."""
        self._shared[_STEP] = (self._shared[_STEP] + 1) % 256

    def was_freed(self) -> bool:
        """Return whether the child had to free this process since pin()."""
        return self._shared[_FREED] == 1

    def unpin(self) -> None:
        """Give the thread its CPU affinity of before, as far as the cpuset still allows it."""
        self._shared[_PINNED] = 0
        try:
            os.sched_setaffinity(0, self._affinity)
        except OSError:
            pass  # The cpuset has changed meanwhile.


def _watch(shared: mmap.mmap, pid: int, affinity: Set[int], released: int) -> None:
    """The child's work, until kvmprobe closes the pipe or is gone."""
    last, idle = shared[_STEP], 0.0
    while not _wait_for_release(released, TICK_S) and not shared[_ENDED] and os.getppid() == pid:
        if not shared[_PINNED] or shared[_STEP] != last:
            last, idle = shared[_STEP], 0.0
        elif not _is_stopped(pid):
            idle += TICK_S
        if idle >= STARVED_S:
            shared[_FREED] = 1
            idle = 0.0
            try:
                os.sched_setaffinity(pid, affinity)
            except OSError:
                pass  # The cpuset has changed meanwhile: the kernel has moved the task itself.


def _wait_for_release(released: int, seconds: float) -> bool:
    """Wait for `seconds`, or until kvmprobe has released the child or is gone. Return whether that is seen."""
    try:
        return bool(select.select([released], [], [], seconds)[0])
    except OSError:
        time.sleep(seconds)
        return False


def _is_stopped(pid: int) -> bool:
    """Return whether a signal or a debugger has stopped a process: state T or t in /proc/PID/stat."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] in (b"T", b"t")
    except OSError:
        return False
