"""Signals while processes are followed: blocked, and taken one by one where kvmprobe waits, so that none interrupts."""

from __future__ import annotations

import signal

from kvmprobe.model.signals import ENDING_SIGNALS

# Python ignores them; a program that is started from a shell does not.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


class BlockedSignals:
    """Blocks ENDING_SIGNALS and SIGCHLD from entry to exit. A signal that kvmprobe's caller ignores stays ignored."""

    def __enter__(self) -> BlockedSignals:
        self._ending = {signum for signum in ENDING_SIGNALS if signal.getsignal(signum) is not signal.SIG_IGN}
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*self._ending, signal.SIGCHLD})
        return self

    def __exit__(self, *_: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def wait(self, seconds: float) -> signal.struct_siginfo | None:
        """Wait for the next signal and return it, None where none arrives in time."""
        return signal.sigtimedwait({*self._ending, signal.SIGCHLD}, seconds)

    def restore_in_child(self) -> None:
        """Give a child the signal handling and the mask with which kvmprobe itself was started."""
        for signum in (*self._ending, *_IGNORED_BY_PYTHON):
            signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
