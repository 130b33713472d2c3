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
            os.close(released)
            self.release()
            raise
        if self._pid == 0:
            try:
                while _release_fds:
                    os.close(_release_fds.pop())
                _leave_kvmprobe()
                work(released)
            finally:
                os._exit(0)
        os.close(released)

    def release(self) -> None:
        """Tell the child to end its work. A second call does nothing."""
        fd, self._release_fd = self._release_fd, -1
        if fd >= 0:
            _release_fds.discard(fd)
            os.close(fd)

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
