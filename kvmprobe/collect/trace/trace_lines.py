"""The lines of a trace (kernel: kernel/trace/trace_output.c, arch/x86/include/asm/msr-trace.h) as evidence."""

from __future__ import annotations

import re

from kvmprobe import TYPE_CHECKING
from kvmprobe.model import kernel_steps
from kvmprobe.model.registers import EFER, VM_HSAVE_PA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvmprobe.model.evidence import TraceEntry

REGISTERS = {register.number: register.name for register in (EFER, VM_HSAVE_PA)}

_MARK = "kvmprobe: "

# "         python3-129     [001] d..1.    8.805960: write_msr: c0000080, value 1d01"; a name may hold anything.
_LINE = re.compile(r"\s*(.*)-(\d+)\s+(?:\([ \d-]+\)\s+)?\[(\d+)\]\s+(?:\S+\s+)?(\d+\.\d+): (.*)")
_FUNCTION = re.compile(r"(\S+) <-(\S+)$")
_WRITE = re.compile(r"write_msr: ([0-9a-f]+), value ([0-9a-f]+)( #GP)?$")


def mark(phase: str) -> str:
    """The line that says that what follows belongs to `phase`."""
    return _MARK + phase


def parse(text: str) -> Iterator[TraceEntry]:
    """The entries of a trace: functions while kvm_amd is loaded, a VM created or closed; writes at any time."""
    phase = "before"
    for line in text.splitlines():
        found = _LINE.match(line)
        if not found:
            continue  # a comment, a loss (which the statistics tell better)
        task, pid, cpu, seconds, what = found.groups()
        if _MARK in what:
            phase = what.partition(_MARK)[2]
            continue
        entry: TraceEntry = {
            "phase": phase,
            "seconds": float(seconds),
            "cpu": int(cpu),
            "task": task,
            "pid": int(pid),
            "function": None,
            "caller": None,
            "register": None,
            "value": None,
        }
        function, write = _FUNCTION.match(what), _WRITE.match(what)
        if function and phase in (kernel_steps.LOAD, kernel_steps.CREATE, kernel_steps.CLOSE):
            entry["function"], entry["caller"] = function.groups()
            yield entry
        elif write:
            number, value, refused = write.groups()
            entry["register"] = REGISTERS.get(int(number, 16), f"0x{number}")
            entry["value"] = {"error": "#GP"} if refused else f"0x{value}"
            yield entry
