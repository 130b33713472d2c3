"""A child process that makes a change and reverts it later, even where kvmprobe is ended by SIGKILL."""

from __future__ import annotations

import json
import os

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.background_child import BackgroundChild

if TYPE_CHECKING:
    from typing import Any, Callable


class RevertChild:
    """Start the child. It calls `change()` at once, and `revert(changed)` when kvmprobe releases it or is gone.

    `changed`: what change() returned, None where the child failed. Both results are sent as JSON. Descriptors that are
    open here stay open in the child until it has reverted the change.
    """

    def __init__(self, change: Callable[[], Any], revert: Callable[[Any], Any]) -> None:
        self._change = change
        self._revert = revert
        results, result = os.pipe()
        self._results = os.fdopen(results, encoding="utf-8")
        try:
            self._child: BackgroundChild | None = BackgroundChild(lambda released: self._run_child(released, result))
        finally:
            os.close(result)
        try:
            self.changed = self._read_result()
        except BaseException:  # A signal ends kvmprobe.
            self.revert()
            raise

    def revert(self) -> Any:
        """Have the child revert the change, wait until it has ended, and return what its revert() returned.

        Returns None where the child failed, and in a second call.
        """
        if self._child is None:
            return None
        self._child.release()
        reverted = self._read_result()
        self._results.close()
        self._child.wait()
        self._child = None
        return reverted

    def _read_result(self) -> Any:
        return json.loads(self._results.readline() or "null")

    def _run_child(self, released: int, result: int) -> None:
        changed = self._change()
        _write_json(result, changed)
        os.read(released, 1)
        _write_json(result, self._revert(changed))


def _write_json(fd: int, value: Any) -> None:
    data = json.dumps(value).encode() + b"\n"
    try:
        while data:
            data = data[os.write(fd, data) :]
    except BrokenPipeError:
        pass  # kvmprobe was killed; the change still has to be reverted.
