"""Changes of the kernel's trace, by step of the call chain, whatever the functions are called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvmprobe import TYPE_CHECKING
from kvmprobe.compare.difference import CHANGED, NOT_COMPARABLE, SAME, Difference, Side
from kvmprobe.compare.register_changes import page_texts
from kvmprobe.model import kernel_steps
from kvmprobe.model.cpu_lists import cpu_names, group
from kvmprobe.model.registers import VM_HSAVE_PA
from kvmprobe.model.values import error_of

if TYPE_CHECKING:
    from kvmprobe.model.command_evidence import Trace

_AREA = "trace"

# Steps that run on each CPU. All others run on the CPU where the process happens to be.
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
    """When and where each step was called, and what was written to each register."""
    was: Trace | None = old.evidence.get("trace")
    now: Trace | None = new.evidence.get("trace")
    if was is None or now is None:
        if was is not now:
            texts = ["not taken" if trace is None else "taken" for trace in (was, now)]
            yield Difference(_AREA, "trace", NOT_COMPARABLE, texts[0], texts[1])
        return
    if was["lost"] or now["lost"]:
        note = "a function without an entry was not called, or its entry was lost"
        yield Difference(_AREA, "entries", NOT_COMPARABLE, _completeness(was), _completeness(now), note)
        return
    with_load = [trace["unloaded"] is not None for trace in (was, now)]
    if with_load[0] != with_load[1]:
        texts = ["traced" if traced else "not traced" for traced in with_load]
        yield Difference(_AREA, "loading kvm_amd", NOT_COMPARABLE, texts[0], texts[1])
    phases = [phase for phase in kernel_steps.PHASES if phase != kernel_steps.LOAD or all(with_load)]
    sides = _ComparedTrace(old, was, phases), _ComparedTrace(new, now, phases)
    yield from _steps(*sides)
    yield from _writes(*sides)


def _completeness(trace: Trace) -> str:
    return f"lost on {cpu_names(map(int, trace['lost']))}" if trace["lost"] else "complete"


class _ComparedTrace:
    """A trace in the `phases` that both reports have, without what differs from run to run."""

    def __init__(self, side: Side, trace: Trace, phases: Sequence[str]) -> None:
        self.trace = trace
        self.cpus = side.facts.cpus
        self._phases = phases
        self._entries = [entry for entry in trace["entries"] if entry["phase"] in phases]

    def names(self, step: kernel_steps.Step) -> list[str]:
        """The names that the step has in this kernel; none where it is not visible."""
        return self.trace["visible"].get(step.id) or []

    def calls(self, step: kernel_steps.Step, by_cpu: bool) -> str:
        """ "create on every CPU, close": in which phases the step was called, and `by_cpu` where."""
        called: dict[str, set[int]] = {}
        for entry in self._entries:
            if entry["function"] and kernel_steps.step_of(entry["function"]) is step:
                called.setdefault(entry["phase"], set()).add(entry["cpu"])
        texts = (
            phase + (f" on {self._cpu_names(called[phase])}" if by_cpu else "")
            for phase in self._phases
            if phase in called
        )
        return ", ".join(texts) or "not called"

    def writes(self, phase: str) -> dict[str, dict[int, tuple[str, ...]]]:
        """By register and CPU: the values that were written, in order."""
        written: dict[str, dict[int, tuple[str, ...]]] = {}
        for entry in self._entries:
            name, value = entry["register"], entry["value"]
            if name and entry["phase"] == phase:
                error = error_of(value)
                text = f"refused ({error})" if error else str(value)
                by_cpu = written.setdefault(name, {})
                by_cpu[entry["cpu"]] = (*by_cpu.get(entry["cpu"], ()), text)
        return written

    def text(self, by_cpu: dict[int, tuple[str, ...]], register: str) -> str:
        """What was written to a register, for people: "0x1d01 on every CPU"."""
        if register == VM_HSAVE_PA.name:
            last = page_texts({cpu: values[-1] for cpu, values in by_cpu.items()})
            by_cpu = {cpu: (*("a page" for _ in values[:-1]), last[cpu]) for cpu, values in by_cpu.items()}
        groups = group(dict(sorted(by_cpu.items())))
        texts = (f"{', '.join(values)} on {self._cpu_names(set(cpus))}" for values, cpus in groups.items())
        return "; ".join(texts) or "not written"

    def _cpu_names(self, cpus: set[int]) -> str:
        return "every CPU" if cpus >= set(self.cpus) else cpu_names(cpus)


def _steps(old: _ComparedTrace, new: _ComparedTrace) -> Iterator[Difference]:
    # Where one report has a single CPU, its "every CPU" does not show where a step would run on several.
    is_comparable = (len(old.cpus) == 1) == (len(new.cpus) == 1)
    for step in kernel_steps.STEPS:
        visible = [bool(trace.names(step)) for trace in (old, new)]
        if visible[0] != visible[1]:
            yield _visibility(step.id, visible)
        if not all(visible):
            continue
        by_cpu = is_comparable and step.id in _ON_EACH_CPU
        was, now = (trace.calls(step, by_cpu) for trace in (old, new))
        names = [", ".join(trace.names(step)) for trace in (old, new)]
        note = f"renamed: {names[0]} -> {names[1]}" if names[0] != names[1] else ""
        yield Difference(_AREA, step.id, SAME if was == now else CHANGED, was, now, note)


def _writes(old: _ComparedTrace, new: _ComparedTrace) -> Iterator[Difference]:
    visible = [trace.trace["writes_visible"] for trace in (old, new)]
    if visible[0] != visible[1]:
        yield _visibility("writes of registers", visible)
    if not all(visible):
        return
    for phase in kernel_steps.PHASES:
        written = [trace.writes(phase) for trace in (old, new)]
        for register in sorted({*written[0], *written[1]}):
            was, now = (trace.text(writes.get(register, {}), register) for trace, writes in zip((old, new), written))
            rating = SAME if was == now else CHANGED
            yield Difference(_AREA, f"{register} written ({phase})", rating, was, now)


def _visibility(subject: str, visible: Sequence[bool]) -> Difference:
    was, now = ("visible" if is_visible else "not visible" for is_visible in visible)
    return Difference(_AREA, subject, NOT_COMPARABLE, was, now)
