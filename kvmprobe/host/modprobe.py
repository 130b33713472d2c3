"""Loading modules with modprobe, and unloading again what was loaded.

TemporarilyLoaded modules are loaded by a UndoingChild, so that they go away however kvmprobe ends.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.modules import is_loaded
from kvmprobe.host.run_program import run
from kvmprobe.host.sysroot import Sysroot, close
from kvmprobe.host.undoing_child import UndoingChild

if TYPE_CHECKING:
    from typing import Any

    from kvmprobe.model.evidence import LoadAttempt


_NO_MODULES = "this kernel has no loadable modules: there is no /proc/modules"
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.ENODEV)
_LOAD_TRIES = 5
_UNLOAD_TRIES = 20
_UNLOAD_DEADLINE_S = 30.0
_PAUSE_S = 0.1


def load(root: Sysroot, *names: str) -> list[LoadAttempt]:
    """Loads modules, one modprobe for all of them unless it fails."""
    if not root.exists("/proc/modules"):
        return _answers(names, None, _NO_MODULES)
    status, output = run("modprobe", "-a", *names)
    if status not in (0, None) and len(names) > 1:  # None: not run, or in vain
        return [attempt for name in names for attempt in load(root, name)]
    return _answers(names, status, output)


def _answers(names: Sequence[str], status: int | None, output: str) -> list[LoadAttempt]:
    return [{"module": name, "status": status, "output": output, "unloaded": None} for name in names]


class TemporarilyLoaded:
    """Modules that are there from entry to exit: loaded where they are missing, and unloaded again.

    `devices`: by module, a device of it. As long as that is open the kernel unloads the module for nobody. So
    kvmprobes take no modules away from each other, in whatever container or sandbox, and no user without a right to
    the device has a say in it. A module that was there before stays, and so does one that others go on using.
    `attempts` says what came of each; their "unloaded" is known after exit.
    """

    def __init__(self, root: Sysroot, devices: Mapping[str, str], may_load: bool = True) -> None:
        self.attempts: list[LoadAttempt] = []
        self._root = root
        self._devices = devices
        self._may_load = may_load
        self._missing: list[str] = []
        self._open: list[int] = []
        self._guard: UndoingChild | None = None

    def __enter__(self) -> TemporarilyLoaded:
        try:
            self._missing = self._hold(self._devices)
            if self._missing and self._may_load:
                if self._root.exists("/proc/modules"):
                    self._guard = UndoingChild(self._load, self._unload)
                    self.attempts = self._guard.done["attempts"] if self._guard.done else []
                else:
                    self.attempts = _answers(self._missing, None, _NO_MODULES)
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        if self._guard is not None:
            self.attempts = self._guard.release() or self.attempts
            self._guard = None
        self._let_go()

    def _hold(self, names: Iterable[str]) -> list[str]:
        """Opens devices, and returns the modules whose are not there."""
        missing = []
        for name in names:
            try:
                path = self._root.path(self._devices[name])
                self._open.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
            except OSError as error:  # what cannot be opened for another reason is there
                if error.errno in _ABSENT:
                    missing.append(name)
        return missing

    def _let_go(self) -> None:
        while self._open:
            close(self._open.pop())

    # These two run in the guard.

    def _load(self) -> dict[str, Any]:
        absent = [name for name in self._missing if not is_loaded(self._root, name)]
        found: dict[str, LoadAttempt] = {}
        missing = self._missing
        for _ in range(_LOAD_TRIES):
            found.update((attempt["module"], attempt) for attempt in load(self._root, *missing))
            missing = self._hold(missing)
            if not any(found[name]["status"] == 0 for name in missing):
                break
            time.sleep(_PAUSE_S)  # it was still there for modprobe, and another kvmprobe was unloading it
        ours = [name for name in absent if is_loaded(self._root, name)]
        return {"attempts": list(found.values()), "ours": ours}

    def _unload(self, done: dict[str, Any]) -> list[LoadAttempt]:
        attempts: list[LoadAttempt] = done["attempts"]
        self._let_go()
        _unload(self._root, done["ours"])
        for attempt in attempts:
            if attempt["module"] in done["ours"]:
                attempt["unloaded"] = not is_loaded(self._root, attempt["module"])
        return attempts


def _unload(root: Sysroot, names: Sequence[str]) -> None:
    """As soon as nobody uses them; waiting for that has an end, for a watch may last for days."""
    ends = time.monotonic() + _UNLOAD_DEADLINE_S
    tries = 0
    while (left := [name for name in names if is_loaded(root, name)]) and time.monotonic() < ends:
        unused = [name for name in left if root.text_or_none(f"/sys/module/{name}/refcnt") in ("0", None)]
        if unused:
            tries += 1
            status, _ = run("modprobe", "-r", *unused)
            if (status == 0 and unused == left) or tries == _UNLOAD_TRIES:
                return
        time.sleep(_PAUSE_S)
