"""Modules that are loaded for the time of a probe and then unloaded again, however kvmprobe ends."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable, Mapping

from kvmprobe import TYPE_CHECKING
from kvmprobe.host import modules
from kvmprobe.host.background_child import wait_for_programs
from kvmprobe.host.modprobe import attempts_of, load_modules, refused_by_kernel, unload_modules
from kvmprobe.host.sysroot import Sysroot, close_fd

if TYPE_CHECKING:
    from kvmprobe.host.revert_child import RevertChild
    from kvmprobe.model.evidence import LoadAttempt


# What the open of a device answers where its module is not loaded.
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.ENODEV)
_NO_ANSWER = "the process that loads it did not answer"
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
        # Before the load those that are not loaded, after it those of them that are: this is what is to be unloaded.
        self._to_unload: list[str] = []
        self._open_fds: list[int] = []
        self._child: RevertChild | None = None

    def __enter__(self) -> TemporaryModules:
        try:
            self._missing = self._open_devices(self._devices)
            if self._missing and self._may_load:
                refused = refused_by_kernel(self._root, self._missing)
                if refused is None:
                    self._start_child()
                else:
                    self.attempts = refused
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._release()

    def _start_child(self) -> None:
        from kvmprobe.host import run_program
        from kvmprobe.host.revert_child import RevertChild

        run_program.prepare()
        self._to_unload = [name for name in self._missing if modules.is_certainly_unloaded(self._root, name)]
        try:
            self._child = RevertChild(self._load, self._unload)
        except OSError as error:
            self.attempts = attempts_of(self._missing, None, f"no process can be started: {error.strerror}")
        else:
            self.attempts = self._child.changed or attempts_of(self._missing, None, _NO_ANSWER)

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

    def _load(self) -> list[LoadAttempt]:
        attempts: dict[str, LoadAttempt] = {}
        missing = self._missing
        for _ in range(_LOAD_TRIES):
            attempts.update((attempt["module"], attempt) for attempt in load_modules(self._root, *missing))
            wait_for_programs()
            missing = self._open_devices(missing)
            if not any(attempts[name]["status"] == 0 for name in missing):
                break
            # modprobe found it loaded, and a moment later another kvmprobe unloaded it.
            time.sleep(_PAUSE_S)
        self._to_unload = self._loaded()
        return list(attempts.values())

    def _unload(self, attempts: list[LoadAttempt] | None) -> list[LoadAttempt]:
        self._close_devices()
        unload_modules(self._root, self._loaded())
        wait_for_programs()
        left = self._loaded()
        attempts = attempts or attempts_of(self._missing, None, _NO_ANSWER)
        for attempt in attempts:
            if attempt["module"] in self._to_unload:
                attempt["unloaded"] = attempt["module"] not in left
        return attempts

    def _loaded(self) -> list[str]:
        return [name for name in self._to_unload if not modules.is_certainly_unloaded(self._root, name)]
