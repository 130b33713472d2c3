"""What is followed: processes, their threads and the ioctls these make; and the observer, which records them."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Protocol

    from kvmprobe.collect.watch.kvm_ioctls import KvmIoctl
    from kvmprobe.model.command_evidence import WatchedCall
    from kvmprobe.model.evidence import Answer, Snapshot

    class Observer(Protocol):
        """Called by a Follower. While a method runs, the thread it is about stands still."""

        def thread_found(self, tid: int, pid: int) -> None:
            """A thread is followed from now on; `pid` is its process."""

        def call_entered(self, tid: int, pid: int, ioctl: KvmIoctl) -> ObservedCall:
            """A thread is about to make a watched ioctl. Returns what call_returned() will be given."""

        def call_returned(self, call: ObservedCall, answer: Answer) -> bool:
            """The ioctl has returned. Returns True where no further call of this process is of interest."""

        def unknown_abi(self, pid: int) -> None:
            """A process made a system call in an ABI that kvm_ioctls does not know."""

        def idle(self) -> None:
            """Nothing happened for about a second."""


class ObservedCall:
    """A watched ioctl that has begun. `evidence`: its record so far. `entry`: all registers at its entry."""

    def __init__(self, ioctl: KvmIoctl, evidence: WatchedCall, entry: Snapshot) -> None:
        self.ioctl = ioctl
        self.evidence = evidence
        self.entry = entry


class TracedProcess:
    """A process. `watched`: its threads stop at system calls."""

    def __init__(self, pid: int, watched: bool = True) -> None:
        self.pid = pid
        self.watched = watched


class TracedThread:
    """A thread. `call`: the watched ioctl that it is in, else None."""

    def __init__(self, tid: int, process: TracedProcess) -> None:
        self.tid = tid
        self.process = process
        self.call: ObservedCall | None = None
