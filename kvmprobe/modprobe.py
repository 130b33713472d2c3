"""Loading modules with modprobe, and unloading again what was loaded.

Borrowed modules are loaded by a guard, a child process that unloads them as soon as its pipe to kvmprobe closes. So
they go away however kvmprobe ends: normally, by Ctrl-C, by SIGTERM, by SIGKILL.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
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


def modprobe(*arguments: str) -> tuple[int | None, str]:
    """Runs modprobe (no shell): its exit status, None when it could not be run, and what it said."""
    import subprocess  # not needed on most hosts, and slow to import

    try:
        done = subprocess.run(  # noqa: S603
            ["modprobe", *arguments],  # noqa: S607  (found in _PATH only)
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": _PATH, "LC_ALL": "C"},
            timeout=_DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"modprobe did not end within {_DEADLINE_S:.0f} s"
    except OSError as error:
        return None, f"modprobe cannot be run: {os.strerror(error.errno or 0)}"
    return done.returncode, done.stdout.decode("utf-8", "replace").strip()


def load(root: Root, name: str) -> LoadAttempt:
    """Loads a module to stay."""
    if root.exists("/proc/modules"):
        status, output = modprobe(name)
    else:
        status, output = None, "this kernel has no loadable modules: there is no /proc/modules"
    return {"module": name, "status": status, "output": output, "unloaded": None}


class Borrowed:
    """Modules that are loaded on entry and unloaded on exit; `attempts` says what came of each.

    A module that was there before stays. `attempts[i]["unloaded"]` is known after exit.
    """

    def __init__(self, root: Root, names: Sequence[str]) -> None:
        self.attempts: list[LoadAttempt] = []
        self._root = root
        self._names = names
        self._guard = 0
        self._hold = -1

    def __enter__(self) -> Borrowed:
        if not self._root.exists("/proc/modules"):
            self.attempts = [load(self._root, name) for name in self._names]
        elif self._names:
            try:
                self._start_guard()
            except BaseException:
                self._end_guard()
                raise
        return self

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

    def _be_guard(self, released: int, answer: int) -> None:
        """The child: loads, tells, waits for the pipe to close, unloads, tells."""
        os.setsid()  # a Ctrl-C on the terminal is for kvmprobe
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(signum, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        ours = []
        attempts = []
        for name in self._names:
            was_loaded = is_loaded(self._root, name)
            attempts.append(load(self._root, name))
            if not was_loaded and is_loaded(self._root, name):
                ours.append(name)
        _tell(answer, attempts)
        os.read(released, 1)
        for attempt in attempts:
            if attempt["module"] in ours:
                attempt["unloaded"] = _unload(attempt["module"])
        _tell(answer, attempts)


def _tell(fd: int, attempts: list[LoadAttempt]) -> None:
    try:
        os.write(fd, json.dumps(attempts).encode() + b"\n")
    except BrokenPipeError:
        pass  # kvmprobe was killed; what is ours still has to go


def _unload(name: str) -> bool:
    for _ in range(_UNLOAD_TRIES):
        if modprobe("-r", name)[0] == 0:
            return True
        time.sleep(_UNLOAD_PAUSE_S)
    return False
