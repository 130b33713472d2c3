"""A child process that makes a change and reverts it later, even where kvmprobe is ended by SIGKILL."""

from __future__ import annotations

import json
import os
import time

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.background_child import BackgroundChild, wait_for_release

if TYPE_CHECKING:
    from typing import Any, Callable

_TRIES = 3
_PAUSE_S = 0.1


class RevertChild:
    """Start the child. It calls `change()` at once, and `revert(changed)` when kvmprobe releases it or is gone.

    `changed`: what change() returned, None where it raised or the child failed. revert() is called in any case, so it
    has to find out how far a change() without a result came: what it needs for that is to be read before the child
    starts. It is called again where it raises, and in this process where the child failed. Both results are sent as
    JSON; where that of change() cannot be sent, the child reverts the change at once. Descriptors that are open here
    stay open in the child until it has reverted the change. Raises OSError where no process or pipe can be had.
    """

    def __init__(self, change: Callable[[], Any], revert: Callable[[Any], Any]) -> None:
        self._change = change
        self._revert = revert
        self.changed: Any = None
        results, result = os.pipe()
        self._results = os.fdopen(results, "rb")
        try:
            self._child: BackgroundChild | None = BackgroundChild(lambda released: self._run_child(released, result))
        finally:
            os.close(result)
        try:
            self.changed = (self._read_result() or [None])[0]
        except BaseException:  # A signal ends kvmprobe.
            self.revert()
            raise

    def revert(self) -> Any:
        """Have the child revert the change, wait until it has ended, and return what revert() returned.

        Returns None where revert() raised, and in a second call.
        """
        child, self._child = self._child, None
        if child is None:
            return None
        child.release()
        reverted = self._read_result()
        self._results.close()
        child.wait()
        return reverted[0] if reverted else _try(self._revert, self.changed)

    def _read_result(self) -> list[Any] | None:
        """One result in a list, None where the child has ended without one."""
        try:
            result: list[Any] | None = json.loads(self._results.readline() or b"null")
        except (OSError, ValueError):
            return None
        return result

    def _run_child(self, released: int, result: int) -> None:
        try:
            changed = self._change()
        except Exception:
            changed = None
        if _send(result, changed):
            wait_for_release(released)
        _send(result, _try(self._revert, changed))


def _try(revert: Callable[[Any], Any], changed: Any) -> Any:
    """Return revert(changed), which is called again where it raises; None where it always raises."""
    for _ in range(_TRIES):
        try:
            return revert(changed)
        except Exception:
            time.sleep(_PAUSE_S)
    return None


def _send(fd: int, value: Any) -> bool:
    """Send one result. Return whether kvmprobe can read it: it may have been killed."""
    data = json.dumps([value]).encode() + b"\n"
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        return False
    return True
