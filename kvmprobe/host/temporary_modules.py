"""Modules that are loaded for the time of a probe and then unloaded again, however kvmprobe ends."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable, Mapping

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.modprobe import load_modules, unload_modules
from kvmprobe.host.modules import is_loaded
from kvmprobe.host.sysroot import Sysroot, close_fd

if TYPE_CHECKING:
    from typing import Any

    from kvmprobe.host.revert_child import RevertChild
    from kvmprobe.model.evidence import LoadAttempt


# What the open of a device answers where its module is not loaded.
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.ENODEV)
_LOAD_TRIES = 5
_PAUSE_S = 0.1


class TemporaryModules:
    """Loads the modules that are missing on entry and unloads them on exit.

    `devices`: one device of each module, by module name. The device is kept open from entry to exit: the kernel does
    not unload a module whose device is open. So several kvmprobes do not unload modules from under each other, in
    whatever container, and a user without a right to the device cannot keep it loaded. A module that was loaded
    before stays, and so does one that another process uses. `may_load` False: only open the devices that are there.

    `attempts`: the answer for each module that was missing. Its "unloaded" is known after exit.
    """

    def __init__(self, root: Sysroot, devices: Mapping[str, str], may_load: bool = True) -> None:
        self.attempts: list[LoadAttempt] = []
        self._root = root
        self._devices = devices
        self._may_load = may_load
        self._missing: list[str] = []
        self._open_fds: list[int] = []
        self._child: RevertChild | None = None

    def __enter__(self) -> TemporaryModules:
        try:
            self._missing = self._open_devices(self._devices)
            if self._missing and self._may_load:
                from kvmprobe.host.revert_child import RevertChild

                self._child = RevertChild(self._load, self._unload)
                self.attempts = self._child.changed["attempts"] if self._child.changed else []
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        if self._child is not None:
            self.attempts = self._child.revert() or self.attempts
            self._child = None
        self._close_devices()

    def _open_devices(self, names: Iterable[str]) -> list[str]:
        """Open the device of each module and return the modules whose device is absent."""
        missing = []
        for name in names:
            try:
                self._open_fds.append(self._root.open(self._devices[name]))
            except OSError as error:  # A device that cannot be opened for another reason is there.
                if error.errno in _ABSENT:
                    missing.append(name)
        return missing

    def _close_devices(self) -> None:
        while self._open_fds:
            close_fd(self._open_fds.pop())

    # In the child.

    def _load(self) -> dict[str, Any]:
        not_loaded_before = [name for name in self._missing if not is_loaded(self._root, name)]
        attempts: dict[str, LoadAttempt] = {}
        missing = self._missing
        for _ in range(_LOAD_TRIES):
            attempts.update((attempt["module"], attempt) for attempt in load_modules(self._root, *missing))
            missing = self._open_devices(missing)
            if not any(attempts[name]["status"] == 0 for name in missing):
                break
            # modprobe found it loaded, and a moment later another kvmprobe unloaded it.
            time.sleep(_PAUSE_S)
        loaded = [name for name in not_loaded_before if is_loaded(self._root, name)]
        return {"attempts": list(attempts.values()), "loaded": loaded}

    def _unload(self, changed: dict[str, Any]) -> list[LoadAttempt]:
        attempts: list[LoadAttempt] = changed["attempts"]
        self._close_devices()
        unload_modules(self._root, changed["loaded"])
        for attempt in attempts:
            if attempt["module"] in changed["loaded"]:
                attempt["unloaded"] = not is_loaded(self._root, attempt["module"])
        return attempts
