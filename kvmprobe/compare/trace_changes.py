"""What changed in the kernel's own trace, step by step of the call chain, whatever the functions are called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvmprobe import TYPE_CHECKING
from kvmprobe.compare.difference import CHANGED, NOT_COMPARABLE, SAME, Difference, Side
from kvmprobe.compare.register_changes import pages
from kvmprobe.model import kernel_steps
from kvmprobe.model.cpu_lists import cpu_names, group
from kvmprobe.model.registers import VM_HSAVE_PA
from kvmprobe.model.values import error_of

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Trace

_AREA = "trace"

# Steps that run on each CPU. The others run wherever the process happens to be.
_ON_EACH_CPU = (
    "svm_check_processor_compat",
    "hardware_enable_nolock",
    "kvm_arch_hardware_enable",
    "svm_hardware_enable",
    "x86_virt_get_ref",
    "x86_svm_enable_virtualization_cpu",
    "hardware_disable_nolock",
    "kvm_arch_hardware_disable",
    "svm_hardware_disable",
    "x86_virt_put_ref",
    "x86_svm_disable_virtualization_cpu",
)


def traces(old: Side, new: Side) -> Iterator[Difference]:
    found: list[Trace | None] = [side.evidence.get("trace") for side in (old, new)]
    was, now = found
    if was is None or now is None:
        if was is not now:
            shown = ["not taken" if trace is None else "taken" for trace in found]
            yield Difference(_AREA, "trace", NOT_COMPARABLE, shown[0], shown[1])
        return
    if was["lost"] or now["lost"]:
        shown = [_lost(trace) for trace in (was, now)]
        note = "what was not called cannot be told from what was lost"
        yield Difference(_AREA, "entries", NOT_COMPARABLE, shown[0], shown[1], note)
        return
    loads = [trace["unloaded"] is not None for trace in (was, now)]
    if loads[0] != loads[1]:
        shown = ["traced" if load else "not traced" for load in loads]
        yield Difference(_AREA, "loading kvm_amd", NOT_COMPARABLE, shown[0], shown[1])
    phases = [phase for phase in kernel_steps.PHASES if phase != kernel_steps.LOAD or all(loads)]
    yield from _steps(_Story(old, was, phases), _Story(new, now, phases))
    yield from _writes(_Story(old, was, phases), _Story(new, now, phases))


def _lost(trace: Trace) -> str:
    return f"lost on {cpu_names(map(int, trace['lost']))}" if trace["lost"] else "complete"


class _Story:
    """A trace without what differs from run to run."""

    def __init__(self, side: Side, trace: Trace, phases: Sequence[str]) -> None:
        self.trace = trace
        self.cpus = side.facts.cpus
        self._phases = phases
        self._entries = [entry for entry in trace["entries"] if entry["phase"] in phases]

    def names(self, step: kernel_steps.Step) -> list[str]:
        """What the step is called in this kernel; none where it is not visible."""
        return self.trace["visible"].get(step.id) or []

    def calls(self, step: kernel_steps.Step, by_cpu: bool) -> str:
        """ "create on every CPU, close": when it was called."""
        called: dict[str, set[int]] = {}
        for entry in self._entries:
            if entry["function"] and kernel_steps.step_of(entry["function"]) is step:
                called.setdefault(entry["phase"], set()).add(entry["cpu"])
        shown = (
            phase + (f" on {self._who(called[phase])}" if by_cpu else "") for phase in self._phases if phase in called
        )
        return ", ".join(shown) or "not called"

    def writes(self, phase: str) -> dict[str, dict[int, tuple[str, ...]]]:
        """By register, by CPU: what was written, in order."""
        written: dict[str, dict[int, tuple[str, ...]]] = {}
        for entry in self._entries:
            name, value = entry["register"], entry["value"]
            if name and entry["phase"] == phase:
                error = error_of(value)
                shown = f"refused ({error})" if error else str(value)
                by_cpu = written.setdefault(name, {})
                by_cpu[entry["cpu"]] = (*by_cpu.get(entry["cpu"], ()), shown)
        return written

    def _who(self, cpus: set[int]) -> str:
        return "every CPU" if cpus >= set(self.cpus) else cpu_names(cpus)

    def show(self, by_cpu: dict[int, tuple[str, ...]], register: str) -> str:
        if register == VM_HSAVE_PA.name:
            last = pages({cpu: values[-1] for cpu, values in by_cpu.items()})
            by_cpu = {cpu: (*("a page" for _ in values[:-1]), last[cpu]) for cpu, values in by_cpu.items()}
        groups = group(dict(sorted(by_cpu.items())))
        return (
            "; ".join(f"{', '.join(values)} on {self._who(set(cpus))}" for values, cpus in groups.items()) or "nothing"
        )


def _steps(old: _Story, new: _Story) -> Iterator[Difference]:
    # With one CPU "every CPU" says nothing about where it would run.
    comparable = (len(old.cpus) == 1) == (len(new.cpus) == 1)
    for step in kernel_steps.STEPS:
        visible = [bool(story.names(step)) for story in (old, new)]
        if visible[0] != visible[1]:
            was, now = ("visible" if seen else "not visible" for seen in visible)
            yield Difference(_AREA, step.id, NOT_COMPARABLE, was, now)
        if not all(visible):
            continue
        by_cpu = comparable and step.id in _ON_EACH_CPU
        was, now = (story.calls(step, by_cpu) for story in (old, new))
        names = [", ".join(story.names(step)) for story in (old, new)]
        note = f"{names[0]} is {names[1]} now" if names[0] != names[1] else ""
        yield Difference(_AREA, step.id, SAME if was == now else CHANGED, was, now, note)


def _writes(old: _Story, new: _Story) -> Iterator[Difference]:
    visible = [story.trace["writes_visible"] for story in (old, new)]
    if visible[0] != visible[1]:
        was, now = ("visible" if seen else "not visible" for seen in visible)
        yield Difference(_AREA, "writes of registers", NOT_COMPARABLE, was, now)
    if not all(visible):
        return
    for phase in kernel_steps.PHASES:
        written = [story.writes(phase) for story in (old, new)]
        for register in sorted({*written[0], *written[1]}):
            was, now = (story.show(w.get(register, {}), register) for story, w in zip((old, new), written))
            rating = SAME if was == now else CHANGED
            yield Difference(_AREA, f"{register} written ({phase})", rating, was, now)
