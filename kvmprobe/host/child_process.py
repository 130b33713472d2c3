"""What every child process of a probe does first."""

from __future__ import annotations

import os
import signal

from kvmprobe.host.null_device import open_null
from kvmprobe.model.signals import ENDING_SIGNALS


def become_background_child() -> None:
    """Leave kvmprobe's session, ignore the signals that end it, and close its standard streams.

    Ctrl-C on the terminal is for kvmprobe. The child ends when kvmprobe closes a pipe, or when kvmprobe is gone.
    """
    os.setsid()
    for signum in (*ENDING_SIGNALS, signal.SIGPIPE):
        signal.signal(signum, signal.SIG_IGN)
    null = open_null()
    for fd in (0, 1, 2):
        os.dup2(null, fd)
