"""A child process that works beside kvmprobe until kvmprobe releases it, or is gone.

It waits on a pipe whose other end only kvmprobe has. The kernel closes that end however kvmprobe ends.
"""

from __future__ import annotations

import os
import signal
import time

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.null_device import open_null
from kvmprobe.host.sysroot import close_fd
from kvmprobe.model.signals import ENDING_SIGNALS

if TYPE_CHECKING:
    from typing import Callable

_TRIES = 3
_PROGRAMS_DEADLINE_S = 10.0
_PAUSE_S = 0.05
_ABANDON_S = 0.5

# The ends of the pipes that release the children of this process. No child may keep those of the others: they would
# not be released while it lives.
_release_fds: set[int] = set()


class BackgroundChild:
    """Starts the child, which calls `work(released)` and ends. Raises OSError where no process or pipe can be had.

    `released`: the descriptor that can be read as soon as kvmprobe has released the child or is gone. Other descriptors
    that are open here stay open in the child.
    """

    def __init__(self, work: Callable[[int], None]) -> None:
        released, self._release_fd = os.pipe()
        _release_fds.add(self._release_fd)
        try:
            self._pid = os.fork()
        except OSError:
            close_fd(released)
            self.release()
            raise
        if self._pid == 0:
            try:
                while _release_fds:
                    close_fd(_release_fds.pop())
                _leave_kvmprobe()
                work(released)
            finally:
                os._exit(0)
        close_fd(released)

    def release(self) -> None:
        """Tell the child to end its work. A second call does nothing."""
        fd, self._release_fd = self._release_fd, -1
        if fd >= 0:
            _release_fds.discard(fd)
            try:
                os.write(fd, b"1")  # Besides the end of the pipe, which any copy of this descriptor delays.
            except OSError:
                pass  # It has ended.
            close_fd(fd)

    def wait(self) -> None:
        """Wait until the child has ended."""
        try:
            os.waitpid(self._pid, 0)
        except OSError:
            pass  # Code that waits for any child has taken it already.

    def abandon(self) -> None:
        """End the child by SIGKILL, and do not wait for it: it may be in the kernel, where no signal ends it."""
        try:
            os.kill(self._pid, signal.SIGKILL)
            ends = time.monotonic() + _ABANDON_S
            while os.waitpid(self._pid, os.WNOHANG) == (0, 0) and time.monotonic() < ends:
                time.sleep(_PAUSE_S)
        except OSError:
            pass  # It has ended, and code that waits for any child has taken it.


def wait_for_release(released: int) -> None:
    """In the child: wait until kvmprobe has released it or is gone."""
    for _ in range(_TRIES):
        try:
            os.read(released, 1)
            return
        except OSError:
            pass


def wait_for_programs() -> None:
    """In the child: wait until the programs that it has started have ended, or give up after _PROGRAMS_DEADLINE_S.

    One can be left whose start or end could not be read.
    """
    ends = time.monotonic() + _PROGRAMS_DEADLINE_S
    try:
        while time.monotonic() < ends:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(_PAUSE_S)
    except ChildProcessError:
        pass


def _leave_kvmprobe() -> None:
    """Leave kvmprobe's session, ignore the signals that end it, and close its standard streams, as far as possible.

    Ctrl-C on the terminal is for kvmprobe.
    """
    for step in (os.setsid, _ignore_signals, _close_standard_streams):
        try:
            step()
        except OSError:
            pass


def _ignore_signals() -> None:
    for signum in (*ENDING_SIGNALS, signal.SIGPIPE):
        signal.signal(signum, signal.SIG_IGN)


def _close_standard_streams() -> None:
    null = open_null()
    for fd in (0, 1, 2):
        os.dup2(null, fd)
