"""Loading modules with modprobe, and unloading again what was loaded.

Borrowed modules are loaded by a Guard, so that they go away however kvmprobe ends.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from kvmprobe import TYPE_CHECKING
from kvmprobe.files import Root, close
from kvmprobe.guard import Guard
from kvmprobe.modules import is_loaded
from kvmprobe.programs import run

if TYPE_CHECKING:
    from typing import Any

    from kvmprobe.shape import LoadAttempt


_NO_MODULES = "this kernel has no loadable modules: there is no /proc/modules"
# Somebody else may be reading an MSR at the moment we want to unload the module.
_UNLOAD_TRIES = 20
_UNLOAD_PAUSE_S = 0.1
# Not /proc/modules: what others may open, they may lock for ever. This one is root's alone, on every kernel.
_LOCK = "/proc/vmallocinfo"
_LOCK_DEADLINE_S = 60.0
_ALONE_DEADLINE_S = 10.0  # for others to unload; who reads on, as a watch, takes longer and is not waited for
_LOCK_PAUSE_S = 0.02


def load(root: Root, *names: str) -> list[LoadAttempt]:
    """Loads modules, one modprobe for all of them unless it fails."""
    if not root.exists("/proc/modules"):
        return _answers(names, None, _NO_MODULES)
    status, output = run("modprobe", "-a", *names)
    if status not in (0, None) and len(names) > 1:  # None: not run, or in vain
        return [attempt for name in names for attempt in load(root, name)]
    return _answers(names, status, output)


def _answers(names: Sequence[str], status: int | None, output: str) -> list[LoadAttempt]:
    return [{"module": name, "status": status, "output": output, "unloaded": None} for name in names]


class Borrowed:
    """Modules that are loaded on entry and unloaded on exit; `attempts` says what came of each.

    `missing` says which are not there. Kvmprobes share a lock, so that they do not take modules away from each other:
    one alone has it to load and to unload, all in between, for a watch may last for days. A module that was there
    before stays, and so does one that others still use. `attempts[i]["unloaded"]` is known after exit.
    """

    def __init__(self, root: Root, missing: Callable[[], Sequence[str]], may_load: bool = True) -> None:
        self.attempts: list[LoadAttempt] = []
        self._root = root
        self._missing = missing
        self._may_load = may_load
        self._names: Sequence[str] = ()
        self._lock = -1
        self._guard: Guard | None = None

    def __enter__(self) -> Borrowed:
        if not self._may_load:
            return self
        try:
            self._share(fcntl.LOCK_SH)
            self._names = self._missing()
            alone = bool(self._names) and self._lock >= 0
            if alone:
                self._share(fcntl.LOCK_EX, _ALONE_DEADLINE_S)
                self._names = self._missing()  # somebody may have loaded them meanwhile, to stay
            if self._names and self._root.exists("/proc/modules"):
                self._guard = Guard(self._load, self._unload)
                self.attempts = self._guard.done["attempts"] if self._guard.done else []
            elif self._names:
                self.attempts = _answers(self._names, None, _NO_MODULES)  # loaded without a guard it would stay
            if alone:  # where none could be loaded, there is nothing that others could take away
                in_vain = bool(self._names) and set(self._names) == set(self._missing())
                self._share(fcntl.LOCK_UN if in_vain else fcntl.LOCK_SH)
        except BaseException:
            self._release()
            raise
        return self

    def _share(self, how: int, deadline: float = _LOCK_DEADLINE_S) -> bool:
        """Takes the lock of all kvmprobes on this machine, LOCK_SH or LOCK_EX, or lets go of it, LOCK_UN. False when
        others did not let go of it.

        The guard inherits it, so that it is held until the modules are gone. Waiting has an end: a probe that hangs
        must not hang all others.
        """
        try:
            if self._lock < 0:
                self._lock = os.open(self._root.path(_LOCK), os.O_RDONLY | os.O_CLOEXEC)
            ends = time.monotonic() + deadline
            while time.monotonic() < ends:
                try:
                    fcntl.flock(self._lock, how | fcntl.LOCK_NB)
                    return True
                except BlockingIOError:
                    time.sleep(_LOCK_PAUSE_S)
        except OSError:
            return True  # without the right to it there is no lock
        return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        if self._guard is not None:
            self.attempts = self._guard.release() or self.attempts
            self._guard = None
        if self._lock >= 0:
            close(self._lock)
            self._lock = -1

    # These two run in the guard.

    def _load(self) -> dict[str, Any]:
        absent = [name for name in self._names if not is_loaded(self._root, name)]
        attempts = load(self._root, *self._names)
        return {"attempts": attempts, "ours": [name for name in absent if is_loaded(self._root, name)]}

    def _unload(self, done: dict[str, Any]) -> list[LoadAttempt]:
        attempts: list[LoadAttempt] = done["attempts"]
        if done["ours"] and self._share(fcntl.LOCK_EX):
            _unload(done["ours"])
        for attempt in attempts:
            if attempt["module"] in done["ours"]:
                attempt["unloaded"] = not is_loaded(self._root, attempt["module"])
        return attempts


def _unload(names: list[str]) -> None:
    for _ in range(_UNLOAD_TRIES):
        if run("modprobe", "-r", *names)[0] == 0:
            return
        time.sleep(_UNLOAD_PAUSE_S)
