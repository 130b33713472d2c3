"""Work shared out to processes (concurrent.futures), with bounded memory and no process left behind.

What the library does not do by itself: few tasks are under way at a time, since a task may have a part of a file in it;
the signals that end the parent do not reach a process in the middle of being forked; and a process ends when its parent
was killed, which could not shut the pool down.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Iterator
from itertools import chain, islice

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.errors import Problem
from kvmprobe.model.signals import ENDING_SIGNALS

if TYPE_CHECKING:
    from concurrent.futures import Future, ProcessPoolExecutor
    from typing import Any, Callable, TypeVar

    Task = TypeVar("Task")
    Result = TypeVar("Result")

_TICK_S = 1.0


def run_parallel(tasks: Iterator[Task], work: Callable[[Task], Result], jobs: int) -> Iterator[Result]:
    """`work(task)` for each of `tasks`, in the order in which the results are ready, in at most `jobs` processes.

    At most `jobs` + 1 tasks are read ahead of the results. A single task, or all tasks with a single job, is done in
    this process; so are all where the system offers no semaphores. Raises Problem where a process dies or cannot be
    started, and whatever `work` raises.
    """
    first = list(islice(tasks, jobs))
    pool = _pool(len(first), work)
    if pool is None:
        yield from map(work, chain(first, tasks))
        return
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import active_children

    pending: set[Future[Result]] = set()
    try:
        for task in chain(first, tasks):
            if len(pending) > jobs:
                done, pending = _wait_for_first(pending)
                yield from (future.result() for future in done)
            pending.add(_submit(pool, task))
        while pending:
            done, pending = _wait_for_first(pending)
            yield from (future.result() for future in done)
        pool.shutdown()
    except BrokenProcessPool as error:
        hint = "See whether the kernel ran out of memory (`journalctl -k`), or read in one process: --jobs 1."
        raise Problem("a process that reads the reports died or was killed", hint) from error
    finally:
        for process in active_children():
            process.kill()  # after an error or a signal: it has nothing to clean up
            process.join()


def _pool(processes: int, work: Callable[[Any], Any]) -> ProcessPoolExecutor | None:
    """An executor; None where one process does it: there are fewer than two tasks, or no POSIX semaphores, as in a
    chroot without /dev/shm."""
    if processes < 2:
        return None
    from concurrent.futures.process import ProcessPoolExecutor
    from multiprocessing import get_context

    threading.excepthook = _ended_threads.append
    try:
        return ProcessPoolExecutor(processes, get_context("fork"), _prepare, (work,))
    except (OSError, NotImplementedError, ImportError):
        return None


_NOT_STARTED = "no process can be started to read reports: {}"
_ONE_JOB = "Use --jobs 1."

_ended_threads: list[object] = []  # those of the pool that an error has ended: nobody would complete its tasks


def _wait_for_first(pending: set[Future[Any]]) -> tuple[set[Future[Any]], set[Future[Any]]]:
    """Returns the tasks that are done, at least one, and the others. Raises Problem where none will ever be done."""
    from concurrent.futures import FIRST_COMPLETED, wait

    while True:
        done, others = wait(pending, _TICK_S, FIRST_COMPLETED)
        if done:
            return done, others
        if _ended_threads:
            raise Problem(_NOT_STARTED.format("no thread can be started"), _ONE_JOB)


def _submit(pool: ProcessPoolExecutor, task: Any) -> Future[Any]:
    """Hands over a task. The pool may fork in here, so a signal that ends this process has to wait: the child would
    run this process's handler, and report its end as well."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        return pool.submit(_do, task)
    except (OSError, RuntimeError) as error:  # RuntimeError: no thread can be started
        raise Problem(_NOT_STARTED.format(getattr(error, "strerror", error)), _ONE_JOB) from error
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)


_work: Callable[[Any], Any]  # of a process of the pool


def _prepare(work: Callable[[Any], Any]) -> None:
    """In a new process of the pool, before its first task."""
    global _work
    _work = work
    for signum in ENDING_SIGNALS:  # Ctrl-C and systemd send them to all processes; this one ends with its parent
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
    gc.disable()  # parsed JSON has no cycles; the search for cycles takes a tenth of the time
    try:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    except RuntimeError:  # no thread can be started; the parent sees that this process has ended
        os._exit(1)


def _end_with_parent() -> None:
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _do(task: Any) -> Any:
    return _work(task)
