"""Ctrl-C during a soak: it ends the soak after the cycle that is under way, so that the report has what was done."""

from __future__ import annotations

import signal
from types import TracebackType

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

_SIGINT = (signal.SIGINT,)


class WaitingInterrupt:
    """While it is entered, SIGINT waits, and no system call of a cycle ends with EINTR because of it.

    `came`: whether SIGINT came. One that the caller ignores or has blocked stays so. SIGTERM still ends at once.
    """

    def __init__(self) -> None:
        self.came = False
        self._before: Collection[int] | None = None

    def __enter__(self) -> WaitingInterrupt:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            self._before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGINT)
        return self

    def look(self) -> bool:
        """Return whether SIGINT has come by now."""
        if self._is_blocked_here() and signal.sigtimedwait(_SIGINT, 0) is not None:
            self.came = True
        return self.came

    def _is_blocked_here(self) -> bool:
        return self._before is not None and signal.SIGINT not in self._before

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.look()
        if self._is_blocked_here():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGINT)
