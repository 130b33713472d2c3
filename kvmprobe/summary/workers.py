"""Work shared out to processes, one for each CPU that this one may use.

A process is forked when there is a task for it. It has one task at a time and answers through its own pair of sockets,
so neither side ever waits for the other while it writes. A process whose parent is gone reads the end and ends, too.
"""

from __future__ import annotations

import gc
import marshal
import os
import selectors
import signal
import socket
from collections.abc import Iterable, Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.errors import EXIT_SOFTWARE, Problem

if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_HEAD = 8  # bytes before a message: its length


class Worker:
    """One process that does `work`, and our end of its sockets. `others`: sockets that are not for it to keep."""

    def __init__(self, work: Callable[[Any], Any], others: Iterable[Worker]) -> None:
        self.socket, theirs = socket.socketpair()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # ours would end the child with the parent's farewell
        try:
            self.pid = os.fork()
            if not self.pid:
                for worker in (self, *others):
                    worker.socket.close()
                _serve(theirs, work)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        theirs.close()

    def send(self, task: object) -> None:
        try:
            _send(self.socket, task)
        except OSError as error:
            raise self.lost() from error

    def answer(self) -> Any:
        """What came of the task. Raises Problem where the process died of it."""
        try:
            answer = _receive(self.socket)
        except (OSError, EOFError, ValueError) as error:
            raise self.lost() from error
        if answer is None:
            raise self.lost()
        return answer

    def lost(self) -> Problem:
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        how = (
            f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
            if os.WIFSIGNALED(status)
            else f"ended with status {os.WEXITSTATUS(status)}"
        )
        return Problem(f"one of the processes that read the reports {how}", "Try --jobs 1, or give it more memory.")

    def end(self) -> None:
        self.socket.close()
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)  # it has nothing to clean up
            os.waitpid(self.pid, 0)
            self.pid = 0


def share(tasks: Iterator[Any], work: Callable[[Any], Any], jobs: int) -> Iterator[Any]:
    """The answers to all `tasks` in the order in which they are ready; at most `jobs` processes. Raises Problem.

    A single task, or a single job, is done in this process.
    """
    first = next(tasks, None)
    second = next(tasks, None) if jobs > 1 else None
    if second is None:
        if first is not None:
            yield work(first)
        yield from map(work, tasks)
        return
    workers: list[Worker] = []
    with selectors.DefaultSelector() as ready:
        try:
            for task in _chain(first, second, tasks):
                if len(workers) < jobs:
                    worker = Worker(work, workers)
                    workers.append(worker)
                    ready.register(worker.socket, selectors.EVENT_READ, worker)
                    worker.send(task)
                    continue
                worker = ready.select()[0][0].data
                answer = worker.answer()
                worker.send(task)
                yield answer
            for _ in range(len(workers)):
                worker = ready.select()[0][0].data
                yield worker.answer()
                ready.unregister(worker.socket)
        finally:
            for worker in workers:
                worker.end()


def _chain(first: object, second: object, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield second
    yield from rest


def _serve(connection: socket.socket, work: Callable[[Any], Any]) -> NoReturn:
    """The child: answers tasks until its parent is gone. It never returns into its parent's code."""
    status = EXIT_SOFTWARE
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
        for signum in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        gc.disable()  # what json makes has no cycles, and looking for them takes a tenth of the time
        while (task := _receive(connection)) is not None:
            _send(connection, work(task))
        status = 0
    except MemoryError:
        status = 1
    except OSError:
        status = 0  # the parent has gone
    finally:
        os._exit(status)


def _send(connection: socket.socket, message: Any) -> None:
    data = marshal.dumps(message)
    connection.sendall(len(data).to_bytes(_HEAD, "little") + data)


def _receive(connection: socket.socket) -> Any:
    """A message; None at the end."""
    head = _exactly(connection, _HEAD)
    return marshal.loads(_exactly(connection, int.from_bytes(head, "little"))) if head else None  # noqa: S302 own


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(min(size - len(data), 1 << 20))
        if not part:
            return b""
        data += part
    return bytes(data)
