"""The lines of a trace as evidence (kernel: kernel/trace/trace_output.c, arch/x86/include/asm/msr-trace.h)."""

from __future__ import annotations

import re

from kvmprobe import TYPE_CHECKING
from kvmprobe.model import kernel_steps
from kvmprobe.model.registers import EFER, VM_HSAVE_PA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvmprobe.model.command_evidence import TraceEntry

# The registers whose writes are traced: names by number.
REGISTERS = {register.number: register.name for register in (EFER, VM_HSAVE_PA)}

_MARKER = "kvmprobe: "

# "         python3-129     [001] d..1.    8.805960: write_msr: c0000080, value 1d01". A task name may contain anything.
_LINE = re.compile(r"\s*(.*)-(\d+)\s+(?:\([ \d-]+\)\s+)?\[(\d+)\]\s+(?:\S+\s+)?(\d+\.\d+): (.*)")
_FUNCTION = re.compile(r"(\S+) <-(\S+)$")
_WRITE = re.compile(r"write_msr: ([0-9a-f]+), value ([0-9a-f]+)( #GP)?$")


def marker(phase: str) -> str:
    """Return the text of the trace marker that begins `phase`."""
    return _MARKER + phase


def parse_trace(text: str) -> Iterator[TraceEntry]:
    """Return the entries of a trace, in its order.

    Functions only of the phases in which kvm_amd is loaded or a VM created or closed, register writes of all phases.
    """
    phase = "before"
    for line in text.splitlines():
        found = _LINE.match(line)
        if not found:
            continue  # A comment, or a note about lost entries: the statistics of the CPU count them.
        task, pid, cpu, seconds, rest = found.groups()
        if _MARKER in rest:
            phase = rest.partition(_MARKER)[2]
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
        function, write = _FUNCTION.match(rest), _WRITE.match(rest)
        if function and phase in (kernel_steps.LOAD, kernel_steps.CREATE, kernel_steps.CLOSE):
            entry["function"], entry["caller"] = function.groups()
            yield entry
        elif write:
            number, value, refused = write.groups()
            entry["register"] = REGISTERS.get(int(number, 16), f"0x{number}")
            entry["value"] = {"error": "#GP"} if refused else f"0x{value}"
            yield entry
