"""Loading modules with modprobe, and unloading again what was loaded.

Borrowed modules are loaded by a guard, a child process that unloads them as soon as its pipe to kvmprobe closes. So
they go away however kvmprobe ends: normally, by Ctrl-C, by SIGTERM, by SIGKILL.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from kvmprobe import TYPE_CHECKING
from kvmprobe.files import Root
from kvmprobe.modules import is_loaded

if TYPE_CHECKING:
    from kvmprobe.shape import LoadAttempt


_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_DEADLINE_S = 120.0
# Somebody else may be reading an MSR at the moment we want to unload the module.
_UNLOAD_TRIES = 20
_UNLOAD_PAUSE_S = 0.1
_LOCK_DEADLINE_S = 60.0
_LOCK_PAUSE_S = 0.02


def modprobe(*arguments: str) -> tuple[int | None, str]:
    """Runs modprobe (no shell): its exit status, None when it could not be run, and what it said.

    Not by subprocess, whose import takes as long as modprobe itself.
    """
    path = next((path for path in (f"{folder}/modprobe" for folder in _PATH.split(":")) if os.path.exists(path)), None)
    if path is None:
        return None, f"there is no modprobe in {_PATH}"
    said, saying = os.pipe()
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, saying, 1),
        (os.POSIX_SPAWN_DUP2, saying, 2),
    ]
    try:
        pid = os.posix_spawn(path, ["modprobe", *arguments], {"PATH": _PATH, "LC_ALL": "C"}, file_actions=actions)
    except OSError as error:
        os.close(said)
        return None, f"{path} cannot be run: {error.strerror}"
    finally:
        os.close(saying)
    output = None
    try:
        output = _read(said)
    finally:
        os.close(said)
        if output is None:  # too late, or we are being ended
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    if output is None:
        return None, f"modprobe did not end within {_DEADLINE_S:.0f} s"
    return os.waitstatus_to_exitcode(status), output.decode("utf-8", "replace").strip()


def _read(fd: int) -> bytes | None:
    """All that comes from a pipe; None when it does not end in time."""
    ends = time.monotonic() + _DEADLINE_S
    output = b""
    while select.select([fd], [], [], max(0.0, ends - time.monotonic()))[0]:
        part = os.read(fd, 65536)
        if not part:
            return output
        output += part
    return None


def load(root: Root, *names: str) -> list[LoadAttempt]:
    """Loads modules, one modprobe for all of them unless it fails."""
    if root.exists("/proc/modules"):
        status, output = modprobe("-a", *names)
        if status != 0 and len(names) > 1:
            return [attempt for name in names for attempt in load(root, name)]
    else:
        status, output = None, "this kernel has no loadable modules: there is no /proc/modules"
    return [{"module": name, "status": status, "output": output, "unloaded": None} for name in names]


class Borrowed:
    """Modules that are loaded on entry and unloaded on exit; `attempts` says what came of each.

    `missing` says which are not there; it is asked when no other kvmprobe is borrowing, for they would take modules
    away from each other. A module that was there before stays. `attempts[i]["unloaded"]` is known after exit.
    """

    def __init__(self, root: Root, missing: Callable[[], Sequence[str]]) -> None:
        self.attempts: list[LoadAttempt] = []
        self._root = root
        self._missing = missing
        self._names: Sequence[str] = ()
        self._lock = -1
        self._guard = 0
        self._hold = -1

    def __enter__(self) -> Borrowed:
        try:
            self._share(fcntl.LOCK_SH)
            self._names = self._missing()
            if self._names and self._lock >= 0:
                self._share(fcntl.LOCK_EX)
                self._names = self._missing()  # somebody may have loaded them meanwhile, to stay
            if self._names and self._root.exists("/proc/modules"):
                self._start_guard()
            elif self._names:
                self.attempts = load(self._root, *self._names)
        except BaseException:
            self._end_guard()
            raise
        return self

    def _share(self, how: int) -> None:
        """Takes the lock of all kvmprobes on this machine: shared by those that only read, one at a time to load.

        The guard inherits it, so that it is held until the modules are gone. Waiting has an end: a probe that hangs
        must not hang all others.
        """
        try:
            if self._lock < 0:
                self._lock = os.open(self._root.path("/proc/modules"), os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            ends = time.monotonic() + _LOCK_DEADLINE_S
            while time.monotonic() < ends:
                try:
                    fcntl.flock(self._lock, how | fcntl.LOCK_NB)
                    return
                except BlockingIOError:
                    time.sleep(_LOCK_PAUSE_S)
        except OSError:
            pass  # no modules in this kernel, or no lock to be had: then nobody else borrows either

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_guard()

    def _start_guard(self) -> None:
        released, self._hold = os.pipe()
        answers, answer = os.pipe()
        self._answers = os.fdopen(answers, encoding="utf-8")
        self._guard = os.fork()
        if self._guard == 0:
            try:
                os.close(self._hold)
                self._be_guard(released, answer)
            finally:
                os._exit(0)
        os.close(released)
        os.close(answer)
        self.attempts = json.loads(self._answers.readline() or "[]")

    def _end_guard(self) -> None:
        if self._hold >= 0:
            os.close(self._hold)
            self._hold = -1
        if self._guard > 0:
            last = self._answers.readline()
            if last:
                self.attempts = json.loads(last)
            self._answers.close()
            os.waitpid(self._guard, 0)
            self._guard = 0
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _be_guard(self, released: int, answer: int) -> None:
        """The child: loads, tells, waits for the pipe to close, unloads, tells."""
        os.setsid()  # a Ctrl-C on the terminal is for kvmprobe
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(signum, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        absent = [name for name in self._names if not is_loaded(self._root, name)]
        attempts = load(self._root, *self._names)
        ours = [name for name in absent if is_loaded(self._root, name)]
        _tell(answer, attempts)
        os.read(released, 1)
        if ours:
            _unload(ours)
        for attempt in attempts:
            if attempt["module"] in ours:
                attempt["unloaded"] = not is_loaded(self._root, attempt["module"])
        _tell(answer, attempts)


def _tell(fd: int, attempts: list[LoadAttempt]) -> None:
    try:
        os.write(fd, json.dumps(attempts).encode() + b"\n")
    except BrokenPipeError:
        pass  # kvmprobe was killed; what is ours still has to go


def _unload(names: list[str]) -> None:
    for _ in range(_UNLOAD_TRIES):
        if modprobe("-r", *names)[0] == 0:
            return
        time.sleep(_UNLOAD_PAUSE_S)
