"""Do the kernel's trace, the registers and KVM's uevents agree, CPU by CPU?"""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import FAIL, PASS, UNKNOWN, WARN, CpuResult, Result, by_cpu
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import cpu_names, group
from kvmprobe.model.kernel_steps import CLOSE, CREATE, LOAD
from kvmprobe.model.registers import EFER, VM_HSAVE_PA
from kvmprobe.model.values import as_int

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Trace


class _Window:
    """The time from one snapshot to the next: `phases` of the trace lie in it, `event` is its uevent."""

    def __init__(self, title: str, start: str, end: str, phases: tuple[str, ...], event: str = "") -> None:
        self.title = title
        self.start = start
        self.end = end
        self.phases = phases
        self.event = event


_WINDOWS = (
    _Window("loading kvm_amd", "unloaded", "before", (LOAD,)),
    _Window("KVM_CREATE_VM", "before", "created", ("before", CREATE), "create"),
    _Window("closing the VM", "created", "closed", ("alive", CLOSE, "after"), "destroy"),
)


def observers(facts: Facts) -> Result:
    """Stands for no function of the kernel: three observers of the same writes.

    Reads the trace's writes of EFER and VM_HSAVE_PA, both registers in each snapshot, and COUNT of KVM's uevents.
    What an observer could not see is no disagreement. Reason: observers-disagree.
    """
    trace = facts.evidence["trace"]
    contradictions = {cpu: _contradictions(facts, trace, cpu) for cpu in facts.cpus}
    bad = {cpu: found for cpu, found in contradictions.items() if found}
    if bad:
        status = UNKNOWN if facts.foreign_events() or facts.gone else FAIL
        parts = by_cpu(
            contradictions, lambda _, text: CpuResult(status, text) if text else CpuResult(PASS, "the observers agree")
        )
        because = [f"{cpu_names(cpus)}: {text}" for text, cpus in group(bad).items()]
        good = cpu_names(cpu for cpu in facts.cpus if cpu not in bad)
        message = f"{'; '.join(because)}; the observers agree on {good}"
        if status == UNKNOWN:
            return Result(UNKNOWN, f"{message}; other VMs or CPUs came and went meanwhile", by_cpu=parts)
        return Result(FAIL, message, "observers-disagree", because=because, by_cpu=parts)
    lost = [int(cpu) for cpu in trace["lost"]]
    missing = [
        *([] if trace["writes_visible"] else ["the trace (writes of registers are not visible)"]),
        *([f"the trace on {cpu_names(lost)} (entries were lost)"] if lost else []),
        *([] if None not in facts.register("created", "EFER").values() else ["the registers (EFER could not be read)"]),
        *([] if facts.evidence["uevents"]["source"] else ["the uevents"]),
    ]
    writes = _writes(facts, trace)
    if missing:
        message = f"what was observed agrees on {cpu_names(facts.cpus)}: {writes}; missing: {', '.join(missing)}"
        return Result(WARN, message)
    return Result(PASS, f"trace, registers and uevents agree on {cpu_names(facts.cpus)}: {writes}")


def _writes(facts: Facts, trace: Trace) -> str:
    """The trace's writes of EFER in each window, for people."""
    texts = []
    for window in _WINDOWS:
        written = {cpu: _written(trace, cpu, window, EFER.name) for cpu in facts.cpus}
        if any(written.values()):
            values = "; ".join(
                f"EFER written {', '.join(values)} on {cpu_names(cpus)}" if values else f"no write on {cpu_names(cpus)}"
                for values, cpus in group(written).items()
            )
            texts.append(f"{window.title}: {values}")
    return "; ".join(texts) or "EFER was not written and did not change"


def _contradictions(facts: Facts, trace: Trace, cpu: int) -> str:
    """In what the observers of one CPU contradict each other; "" where they do not."""
    texts = []
    for window in _WINDOWS:
        for register in (EFER, VM_HSAVE_PA):
            texts.append(_trace_against_registers(facts, trace, cpu, window, register.name))
        texts.append(_uevents_against_others(facts, trace, cpu, window))
    return "; ".join(filter(None, texts))


def _trace_against_registers(facts: Facts, trace: Trace, cpu: int, window: _Window, name: str) -> str:
    start, end = _value(facts, trace, window.start, cpu, name), _value(facts, trace, window.end, cpu, name)
    written = _written(trace, cpu, window, name)
    if end is None or not _sees(trace, cpu):
        return ""
    if written:
        last = as_int(written[-1])
        if last is None or last == end:  # a write that the CPU refused leaves the register's value open
            return ""
        return f"{window.title}: the trace shows {name} written {written[-1]}, the registers show {hex(end)}"
    if start is None or start == end:
        return ""
    return f"{window.title}: the registers show {name} {hex(start)} -> {hex(end)}, the trace shows no write of it"


def _uevents_against_others(facts: Facts, trace: Trace, cpu: int, window: _Window) -> str:
    """COUNT shows whether a VM is alive, so whether SVME has to be 1; and whether ours was the first or the last."""
    event = facts.own_event(window.event)
    if event is None or event["count"] is None or facts.kvm_without_svm() or facts.enables_at_load():
        return ""
    alone = event["count"] == (1 if window.event == "create" else 0)
    counted = f"the uevent counts {event['count']} VM{'' if event['count'] == 1 else 's'}"
    end = _value(facts, trace, window.end, cpu, EFER.name)
    if end is not None and EFER.bit(end, "SVME") != (event["count"] > 0):
        return f"{window.title}: {counted}, the registers show EFER {hex(end)}"
    writes = bool(_written(trace, cpu, window, EFER.name))
    if _sees(trace, cpu) and writes != alone:
        return f"{window.title}: {counted}, the trace shows {'a' if writes else 'no'} write of EFER"
    return ""


def _value(facts: Facts, trace: Trace, phase: str, cpu: int, name: str) -> int | None:
    if phase == "unloaded":
        return as_int((trace["unloaded"] or {}).get(str(cpu), {}).get(name))
    return facts.register(phase, name).get(cpu)


def _sees(trace: Trace, cpu: int) -> bool:
    return trace["writes_visible"] and str(cpu) not in trace["lost"]


def _written(trace: Trace, cpu: int, window: _Window, name: str) -> tuple[str, ...]:
    """The values that the trace shows to have been written, in order."""
    return tuple(
        value if isinstance(value, str) else f"(refused: {value['error'] if value else 'unknown'})"
        for entry in trace["entries"]
        for value in [entry["value"]]
        if entry["cpu"] == cpu and entry["register"] == name and entry["phase"] in window.phases
    )
