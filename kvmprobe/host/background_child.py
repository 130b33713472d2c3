"""A child process that works beside kvmprobe until kvmprobe releases it, or is gone.

It waits on a pipe whose other end only kvmprobe has. The kernel closes that end however kvmprobe ends.
"""

from __future__ import annotations

import os
import signal

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.null_device import open_null
from kvmprobe.model.signals import ENDING_SIGNALS

if TYPE_CHECKING:
    from typing import Callable


class BackgroundChild:
    """Starts the child, which calls `work(released)` and ends. Raises OSError where no process or pipe can be had.

    `released`: the descriptor that can be read as soon as kvmprobe has released the child or is gone. Descriptors that
    are open here stay open in the child.
    """

    def __init__(self, work: Callable[[int], None]) -> None:
        released, self._release_fd = os.pipe()
        try:
            self._pid = os.fork()
        except OSError:
            os.close(released)
            os.close(self._release_fd)
            raise
        if self._pid == 0:
            try:
                os.close(self._release_fd)
                _leave_kvmprobe()
                work(released)
            finally:
                os._exit(0)
        os.close(released)

    def release(self) -> None:
        """Tell the child to end its work. A second call does nothing."""
        if self._release_fd >= 0:
            os.close(self._release_fd)
            self._release_fd = -1

    def wait(self) -> None:
        """Wait until the child has ended."""
        try:
            os.waitpid(self._pid, 0)
        except ChildProcessError:
            pass  # Code that waits for any child has taken it already.


def _leave_kvmprobe() -> None:
    """Leave kvmprobe's session, ignore the signals that end it, and close its standard streams.

    Ctrl-C on the terminal is for kvmprobe.
    """
    os.setsid()
    for signum in (*ENDING_SIGNALS, signal.SIGPIPE):
        signal.signal(signum, signal.SIG_IGN)
    null = open_null()
    for fd in (0, 1, 2):
        os.dup2(null, fd)
