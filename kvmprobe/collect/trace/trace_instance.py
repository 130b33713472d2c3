"""A trace instance (Documentation/trace/ftrace.rst, "Instances"): the machine's own tracing does not change.

The instance is removed however kvmprobe ends.
"""

from __future__ import annotations

import os
import time

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.revert_child import RevertChild
from kvmprobe.host.sysroot import Sysroot, close_fd
from kvmprobe.model.errors import Problem
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import NoReturn

_TRACER = "function"
_CLOCKS = ("mono", "global")  # Comparable between CPUs. "mono" is CLOCK_MONOTONIC.
# The options that give the lines the form that trace_lines reads.
_OPTIONS = "context-info print-parent noraw nohex nobin nolatency-format nosym-offset nosym-addr".split()
_WRITE_MSR = "events/msr/write_msr"
_BUFFER_KB = 64  # Of each CPU: some 1500 entries. The life of a VM needs a dozen.
_LOST = ("overrun", "commit overrun", "dropped events")  # In per_cpu/cpuN/stats.

_OK = "ok"  # What the child answers.
# The kernel removes an instance only when all files in it are closed, which takes a moment where kvmprobe was killed.
_REMOVE_TRIES = 50
_REMOVE_PAUSE_S = 0.1


class TraceInstance:
    """A trace instance in the folder `tracefs`, made on entry and removed on exit. It does not record until `record`.

    `functions`, `writes`: whether function calls and register writes are traced. `limits`: what cannot be traced, in
    sentences. `clock`: of the time stamps. Every failure raises Problem.
    """

    def __init__(self, tracefs: str) -> None:
        self.limits: list[str] = []
        self.clock = ""
        self.functions = False
        self.writes = False
        self._tracefs = tracefs
        self._folder = f"{tracefs}/instances/kvmprobe-{os.getpid()}"
        self._child: RevertChild | None = None

    def __enter__(self) -> TraceInstance:
        try:
            self._child = RevertChild(self._make, self._remove)
            if self._child.changed != _OK:
                _raise_problem(self._folder, self._child.changed or "the process that makes it did not answer")
            self._configure()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        child, self._child = self._child, None
        if child and child.revert() not in (_OK, child.changed):
            raise Problem(f"the trace instance {self._folder} could not be removed", f"rmdir {self._folder}")

    # In the child.

    def _make(self) -> str:
        try:
            os.mkdir(self._folder)
        except OSError as error:
            return failure(error)["error"]
        return _OK

    def _remove(self, made: str | None) -> str | None:
        """Remove the instance, unless it was not made, and return _OK, else why it is still there.

        `made`: what _make() answered, None where that is unknown.
        """
        for _ in range(_REMOVE_TRIES if made in (_OK, None) else 0):
            try:
                os.rmdir(self._folder)
                return _OK
            except FileNotFoundError:
                return _OK
            except OSError as error:
                made = f"{failure(error)['error']}, it is in use"
                time.sleep(_REMOVE_PAUSE_S)
        return made

    # In kvmprobe.

    def _configure(self) -> None:
        self.write("tracing_on", "0")
        self.write("buffer_size_kb", str(_BUFFER_KB))
        current = self.read("trace_options").split()  # A new instance begins with those of the machine's own tracing.
        for option in _OPTIONS:
            if (option[2:] if option.startswith("no") else f"no{option}") in current:
                self.write("trace_options", option)
        clocks = self.read("trace_clock").replace("[", "").replace("]", "").split()
        self.clock = next((clock for clock in _CLOCKS if clock in clocks), "local")
        self.write("trace_clock", self.clock)
        if self.clock == "local":
            self.limits.append("this kernel has no trace clock common to all CPUs: the order between CPUs is unknown")

    def trace_writes(self, numbers: Iterable[int]) -> None:
        """Trace the kernel's writes to the registers with these numbers (event msr:write_msr)."""
        if not os.path.isdir(f"{self._folder}/{_WRITE_MSR}"):
            self.limits.append("this kernel has no trace event msr:write_msr: register writes are not visible")
            return
        self.write(f"{_WRITE_MSR}/filter", "||".join(f"msr=={number:#x}" for number in numbers))
        self.write(f"{_WRITE_MSR}/enable", "1")
        self.writes = True

    def trace_functions(self, filters: Iterable[str]) -> None:
        """Trace functions. Each filter is a name, or "name:mod:module" for a module that may not be loaded yet."""
        if _TRACER not in self.read("available_tracers").split():
            self.limits.append("this kernel has no function tracer: functions are not visible")
            return
        if Sysroot().read_text_or_none("/proc/sys/kernel/ftrace_enabled") == "0":
            self.limits.append("kernel.ftrace_enabled is 0: functions are not visible")
            return
        for line in filters:
            self.write("set_ftrace_filter", line, append=True)
            self.functions = True
        if self.functions:  # Without a filter, the tracer traces all functions.
            self.write("current_tracer", _TRACER)

    def available_functions(self) -> Iterator[tuple[str, str]]:
        """Return the functions that this kernel can trace, each with its module ("" for the kernel image)."""
        try:
            text = Sysroot().read_text(f"{self._tracefs}/available_filter_functions")
        except OSError as error:
            self.limits.append(f"available_filter_functions: {failure(error)['error']}: functions are not visible")
            return
        for line in text.splitlines():
            name, _, module = line.partition(" ")
            yield name, module.strip("[] \t")

    def record(self, on: bool) -> None:
        """Start or stop recording."""
        self.write("tracing_on", "1" if on else "0")

    def write_marker(self, text: str) -> None:
        """Write a line into the trace."""
        self.write("trace_marker", text)

    def lost_entries(self) -> dict[str, int]:
        """Return how many entries the buffer of each CPU has lost, by CPU number; only CPUs that lost some."""
        lost: dict[str, int] = {}
        for name in Sysroot().list_folder(f"{self._folder}/per_cpu"):
            stats = dict(line.partition(":")[::2] for line in self.read(f"per_cpu/{name}/stats").splitlines())
            count = sum(int(stats.get(key, "0")) for key in _LOST)
            if count:
                lost[name[len("cpu") :]] = count
        return lost

    def read(self, name: str) -> str:
        """Return the content of a file of the instance."""
        path = f"{self._folder}/{name}"
        try:
            return Sysroot().read_text(path)
        except OSError as error:
            _raise_problem(path, failure(error)["error"])

    def write(self, name: str, text: str, append: bool = False) -> None:
        """Write a line to a file of the instance. Without `append`, the kernel drops what was set before."""
        path = f"{self._folder}/{name}"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | (os.O_APPEND if append else os.O_TRUNC))
            try:
                os.write(fd, text.encode() + b"\n")
            finally:
                close_fd(fd)
        except OSError as error:
            _raise_problem(f"{path} ({text})", failure(error)["error"])


def _raise_problem(path: str, error: str | None) -> NoReturn:
    lockdown = Sysroot().read_text_or_none("/sys/kernel/security/lockdown") or ""
    if "[confidentiality]" in lockdown:
        hint = "The kernel is locked down (confidentiality), which closes tracefs."
    elif error in ("EACCES", "EPERM"):
        hint = "Run as root, with CAP_SYS_ADMIN."
    else:
        hint = "'kvmprobe check' needs no trace."
    raise Problem(f"the kernel's tracing cannot be used: {path}: {error}", hint)
