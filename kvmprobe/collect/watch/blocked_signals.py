"""Signals while something is followed: taken one by one where we wait, so that none comes in between."""

from __future__ import annotations

import signal

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_OF_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)  # which it ignores, and an ordinary process does not


class Signals:
    """Blocks the signals that end a program, and those of children, from entry to exit."""

    def __enter__(self) -> Signals:
        # What is ignored (nohup) stays so.
        self._awaited = {signum for signum in ENDING if signal.getsignal(signum) is not signal.SIG_IGN}
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*self._awaited, signal.SIGCHLD})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def wait(self, seconds: float) -> signal.struct_siginfo | None:
        """The next of them, None when none came in time."""
        return signal.sigtimedwait({*self._awaited, signal.SIGCHLD}, seconds)

    def restore_in_child(self) -> None:
        """A command begins with the signals that kvmprobe was given, and with SIGCHLD as it usually is."""
        for signum in (*self._awaited, *_OF_PYTHON):
            signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
