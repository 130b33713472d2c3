"""The kernel's tracing through tracefs, in an instance of its own (Documentation/trace/ftrace.rst, "Instances").

The machine's own tracing is left as it is. The instance goes away however kvmprobe ends.
"""

from __future__ import annotations

import ctypes
import os
import time

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.sysroot import Sysroot, close
from kvmprobe.host.undoing_child import UndoingChild
from kvmprobe.model.errors import Problem
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Callable, NoReturn

_USUAL = "/sys/kernel/tracing"
_TRACER = "function"
_CLOCKS = ("mono", "global")  # comparable between CPUs; "mono" is CLOCK_MONOTONIC
# What the lines of a trace look like.
_OPTIONS = "context-info print-parent noraw nohex nobin nolatency-format nosym-offset nosym-addr".split()
_WRITE_MSR = "events/msr/write_msr"
_BUFFER_KB = 64  # for each CPU: some 1500 entries, where a VM's life takes a dozen
_LOST = ("overrun", "commit overrun", "dropped events")  # in per_cpu/cpuN/stats

_OK = "ok"  # what the guard answers
# The kernel removes no instance before it has closed our files in it, which takes a moment where we were killed.
_REMOVE_TRIES = 50
_REMOVE_PAUSE_S = 0.1

# linux/sched.h, linux/mount.h
_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18


def find(mount: bool) -> str:
    """Where tracefs is mounted. With `mount`, where it is not, it is mounted for this process and its children alone.

    Raises Problem where there is none.
    """
    root = Sysroot()
    lines = [line.split() for line in (root.text_or_none("/proc/self/mounts") or "").splitlines()]
    for fields in lines:
        if len(fields) > 2 and fields[2] == "tracefs" and os.path.isdir(f"{fields[1]}/instances"):
            return fields[1]
    if not os.path.isdir(_USUAL):
        raise Problem(f"this kernel has no tracing: there is no {_USUAL}", "Use a kernel with CONFIG_FTRACE.")
    if not mount:
        if not os.access(_USUAL, os.X_OK):
            raise Problem(f"{_USUAL} may not be read", "Run as root.")
        raise Problem(
            f"tracefs is not mounted on {_USUAL}",
            "--mount mounts it for kvmprobe alone; 'mount -t tracefs tracefs /sys/kernel/tracing' for all.",
        )
    _mount()
    return _USUAL


def _mount() -> None:
    """In a mount namespace of our own, which ends with us: the machine's mounts stay as they are."""
    libc = ctypes.CDLL(None, use_errno=True)
    calls: tuple[tuple[str, Callable[[], int]], ...] = (
        ("unshare(CLONE_NEWNS)", lambda: libc.unshare(_CLONE_NEWNS)),
        (
            "making its mounts private",
            lambda: libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None),
        ),
        (
            f"mounting tracefs on {_USUAL}",
            lambda: libc.mount(b"tracefs", _USUAL.encode(), b"tracefs", ctypes.c_ulong(0), None),
        ),
    )
    for what, call in calls:
        if call() != 0:
            code = ctypes.get_errno()
            raise Problem(f"--mount: {what}: {os.strerror(code)}", "Run as root, with CAP_SYS_ADMIN.")


class Instance:
    """A trace instance, made on entry and removed on exit. Its tracing is off until `record`.

    `functions` and `writes` say whether these are traced, `limits` what cannot be seen. Every failure is a Problem.
    """

    def __init__(self, tracefs: str) -> None:
        self.limits: list[str] = []
        self.clock = ""
        self.functions = False
        self.writes = False
        self._tracefs = tracefs
        self._folder = f"{tracefs}/instances/kvmprobe-{os.getpid()}"
        self._guard: UndoingChild | None = None

    def __enter__(self) -> Instance:
        try:
            self._guard = UndoingChild(self._make, self._remove)
            if self._guard.done != _OK:
                _fail(self._folder, self._guard.done)
            self._prepare()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        guard, self._guard = self._guard, None
        if guard and guard.release() not in (_OK, guard.done):
            raise Problem(f"the trace instance {self._folder} could not be removed", f"rmdir {self._folder}")

    # These two run in the guard.

    def _make(self) -> str:
        try:
            os.mkdir(self._folder)
        except OSError as error:
            return failure(error)["error"]
        return _OK

    def _remove(self, made: str) -> str:
        for _ in range(_REMOVE_TRIES if made == _OK else 0):
            try:
                os.rmdir(self._folder)
                return _OK
            except FileNotFoundError:
                return _OK
            except OSError as error:
                made = f"{failure(error)['error']}, it is in use"
                time.sleep(_REMOVE_PAUSE_S)
        return made

    def _prepare(self) -> None:
        self.write("tracing_on", "0")
        self.write("buffer_size_kb", str(_BUFFER_KB))
        current = self.read("trace_options").split()  # those of the machine's own tracing, at first
        for option in _OPTIONS:
            if (option[2:] if option.startswith("no") else f"no{option}") in current:
                self.write("trace_options", option)
        clocks = self.read("trace_clock").replace("[", "").replace("]", "").split()
        self.clock = next((clock for clock in _CLOCKS if clock in clocks), "local")
        self.write("trace_clock", self.clock)
        if self.clock == "local":
            self.limits.append("this kernel's trace clocks differ from CPU to CPU: the order between CPUs is not known")

    def trace_writes(self, numbers: Iterable[int]) -> None:
        """Traces the kernel's writes to the registers with these numbers: the event msr:write_msr."""
        if not os.path.isdir(f"{self._folder}/{_WRITE_MSR}"):
            self.limits.append("this kernel has no trace event msr:write_msr: writes of registers are not visible")
            return
        self.write(f"{_WRITE_MSR}/filter", "||".join(f"msr=={number:#x}" for number in numbers))
        self.write(f"{_WRITE_MSR}/enable", "1")
        self.writes = True

    def trace_functions(self, filters: Iterable[str]) -> None:
        """Traces functions: each filter is a name, or "name:mod:module" for a module that is not loaded yet."""
        if _TRACER not in self.read("available_tracers").split():
            self.limits.append("this kernel has no function tracer: functions are not visible")
            return
        if Sysroot().text_or_none("/proc/sys/kernel/ftrace_enabled") == "0":
            self.limits.append("kernel.ftrace_enabled is 0: functions are not visible")
            return
        for line in filters:
            self.write("set_ftrace_filter", line, append=True)
            self.functions = True
        if self.functions:  # without a filter all functions would be traced
            self.write("current_tracer", _TRACER)

    def available_functions(self) -> Iterator[tuple[str, str]]:
        """The functions that this kernel lets be traced, and their modules ("" where built in)."""
        try:
            text = Sysroot().text(f"{self._tracefs}/available_filter_functions")
        except OSError as error:
            self.limits.append(f"available_filter_functions: {failure(error)['error']}: functions are not visible")
            return
        for line in text.splitlines():
            name, _, module = line.partition(" ")
            yield name, module.strip("[] \t")

    def record(self, on: bool) -> None:
        self.write("tracing_on", "1" if on else "0")

    def mark(self, text: str) -> None:
        """Puts a line of ours among the entries."""
        self.write("trace_marker", text)

    def lost(self) -> dict[str, int]:
        """How many entries each CPU's buffer has lost; only CPUs that lost some."""
        lost: dict[str, int] = {}
        for name in Sysroot().listdir(f"{self._folder}/per_cpu"):
            stats = dict(line.partition(":")[::2] for line in self.read(f"per_cpu/{name}/stats").splitlines())
            count = sum(int(stats.get(key, "0")) for key in _LOST)
            if count:
                lost[name[len("cpu") :]] = count
        return lost

    def read(self, name: str) -> str:
        path = f"{self._folder}/{name}"
        try:
            return Sysroot().text(path)
        except OSError as error:
            _fail(path, failure(error)["error"])

    def write(self, name: str, text: str, append: bool = False) -> None:
        path = f"{self._folder}/{name}"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | (os.O_APPEND if append else os.O_TRUNC))
            try:
                os.write(fd, text.encode() + b"\n")
            finally:
                close(fd)
        except OSError as error:
            _fail(f"{path} ({text})", failure(error)["error"])


def _fail(path: str, error: str | None) -> NoReturn:
    lockdown = Sysroot().text_or_none("/sys/kernel/security/lockdown") or ""
    if "[confidentiality]" in lockdown:
        hint = "The kernel is locked down (confidentiality), which closes tracefs."
    elif error in ("EACCES", "EPERM"):
        hint = "Run as root, with CAP_SYS_ADMIN."
    else:
        hint = "'kvmprobe check' does without the trace."
    raise Problem(f"the kernel's tracing cannot be used: {path}: {error}", hint)
