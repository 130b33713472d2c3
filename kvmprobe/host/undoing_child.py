"""A child process that does something, and undoes it when kvmprobe lets go or is gone, by whatever signal."""

from __future__ import annotations

import json
import os
import signal

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Callable


class UndoingChild:
    """Starts the child, which calls `do` at once and `undo` with its answer in the end. Answers are JSON.

    `done` is what `do` gave; None where the child failed. A lock that is held here is held by the child too, until it
    has undone.
    """

    def __init__(self, do: Callable[[], Any], undo: Callable[[Any], Any]) -> None:
        self._do = do
        self._undo = undo
        released, self._hold = os.pipe()
        answers, answer = os.pipe()
        self._answers = os.fdopen(answers, encoding="utf-8")
        self._child = os.fork()
        if self._child == 0:
            try:
                os.close(self._hold)
                self._be_child(released, answer)
            finally:
                os._exit(0)
        os.close(released)
        os.close(answer)
        try:
            self.done = self._answer()
        except BaseException:  # a signal ends kvmprobe
            self.release()
            raise

    def release(self) -> Any:
        """Lets the child undo it, waits for its end, and gives what `undo` gave."""
        if self._hold >= 0:
            os.close(self._hold)
            self._hold = -1
        undone = None
        if self._child > 0:
            undone = self._answer()
            self._answers.close()
            try:
                os.waitpid(self._child, 0)
            except ChildProcessError:
                pass  # whoever waits for any child may have had it
            self._child = 0
        return undone

    def _answer(self) -> Any:
        return json.loads(self._answers.readline() or "null")

    def _be_child(self, released: int, answer: int) -> None:
        os.setsid()  # a Ctrl-C on the terminal is for kvmprobe
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(signum, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        done = self._do()
        _tell(answer, done)
        os.read(released, 1)
        _tell(answer, self._undo(done))


def _tell(fd: int, what: Any) -> None:
    data = json.dumps(what).encode() + b"\n"
    try:
        while data:
            data = data[os.write(fd, data) :]
    except BrokenPipeError:
        pass  # kvmprobe was killed; what was done still has to be undone
