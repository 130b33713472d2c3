"""A child process that makes a change and reverts it later, even where kvmprobe is ended by SIGKILL.

The child waits on a pipe whose other end only kvmprobe has. The kernel closes that end however kvmprobe ends, and this
is the sign to revert.
"""

from __future__ import annotations

import json
import os

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.child_process import become_background_child

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
        released, self._release_fd = os.pipe()
        results, result = os.pipe()
        self._results = os.fdopen(results, encoding="utf-8")
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.close(self._release_fd)
                self._run_child(released, result)
            finally:
                os._exit(0)
        os.close(released)
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
        if self._release_fd >= 0:
            os.close(self._release_fd)
            self._release_fd = -1
        reverted = None
        if self._pid > 0:
            reverted = self._read_result()
            self._results.close()
            try:
                os.waitpid(self._pid, 0)
            except ChildProcessError:
                pass  # Code that waits for any child has taken it already.
            self._pid = 0
        return reverted

    def _read_result(self) -> Any:
        return json.loads(self._results.readline() or "null")

    def _run_child(self, released: int, result: int) -> None:
        become_background_child()
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
