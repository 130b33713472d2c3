"""A child process that waits until it is traced, and then acts."""

from __future__ import annotations

import os

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmprobe.collect.watch.blocked_signals import BlockedSignals
    from kvmprobe.collect.watch.follower import Follower

YAMA_HINT = (
    "kernel.yama.ptrace_scope: 1 allows a process to trace only its own children, 2 requires CAP_SYS_PTRACE, 3 allows "
    "no tracing until the next boot."
)


class WaitingChild:
    """Starts a child that calls `act` once a follower traces it. `pid`: its PID."""

    def __init__(self, signals: BlockedSignals, act: Callable[[], object]) -> None:
        go, self._go = os.pipe()
        self._errors, errors = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._go)
                signals.restore_in_child()
                if os.read(go, 1):
                    act()
            except BaseException as error:
                os.write(errors, str(getattr(error, "strerror", None) or repr(error)).encode())
            finally:
                os._exit(0)
        os.close(go)
        os.close(errors)

    def release(self, follower: Follower, watched: bool) -> None:
        """Have `follower` trace the child, then let it act. Raises Problem where the kernel refuses.

        `watched`: watch its system calls at once; else only those of the program that it executes.
        """
        try:
            follower.seize(self.pid, watched)
            if watched:
                follower.interrupt([self.pid], lambda: None)
            os.write(self._go, b"1")
        except OSError as error:
            os.close(self._go)  # Without the byte the child ends.
            os.waitpid(self.pid, 0)
            why = os.strerror(error.errno or 0)
            raise Problem(f"the kernel refuses to let kvmprobe trace its own child: {why}", YAMA_HINT) from error
        os.close(self._go)

    def error(self) -> str:
        """Return why the child could not act, else "". Call it when the child has ended or executed a program."""
        with os.fdopen(self._errors, "rb") as file:
            return file.read().decode("utf-8", "replace")
