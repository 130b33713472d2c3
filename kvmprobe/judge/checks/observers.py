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
    from kvmprobe.model.evidence import Reading


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

_COMPARED = (EFER, VM_HSAVE_PA)


def observers(facts: Facts) -> Result:
    """Stands for no function of the kernel: three observers of the same writes.

    Reads the trace's writes of EFER and VM_HSAVE_PA, both registers in each snapshot, and COUNT of KVM's uevents.
    What an observer could not see is no disagreement. Reason: observers-disagree.
    """
    trace = facts.evidence["trace"]
    seen = [_Seen(facts, window) for window in _WINDOWS]
    contradictions = {cpu: _contradictions(seen, cpu) for cpu in facts.cpus}
    bad = {cpu: found for cpu, found in contradictions.items() if found}
    if bad:
        status = UNKNOWN if facts.foreign_events() or facts.came_or_went else FAIL
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
        *([] if facts.create_event() else ["the uevents"]),
    ]
    writes = "; ".join(filter(None, map(_writes, seen))) or "EFER was not written and did not change"
    if missing:
        message = f"the observers agree on {cpu_names(facts.cpus)}: {writes}; missing: {', '.join(missing)}"
        return Result(WARN, message)
    agree = "trace, registers and uevents" if any(one.count is not None for one in seen) else "trace and registers"
    return Result(PASS, f"{agree} agree on {cpu_names(facts.cpus)}: {writes}")


class _Seen:
    """What the observers saw in one window, by CPU.

    `start`, `end`: a register's value at its ends, by the register's name; `written`: the values that the trace shows
    to have been written, in order; `traced`: whether the trace could see a CPU's writes; `count`: the VMs that KVM's
    uevent counted, None where SVME does not follow them.
    """

    def __init__(self, facts: Facts, window: _Window) -> None:
        trace = facts.evidence["trace"]
        self.window = window
        self.start = {register.name: _values(facts, window.start, register.name) for register in _COMPARED}
        self.end = {register.name: _values(facts, window.end, register.name) for register in _COMPARED}
        self.traced = {cpu: trace["writes_visible"] and str(cpu) not in trace["lost"] for cpu in facts.cpus}
        self.written: dict[str, dict[int, tuple[str, ...]]] = {
            register.name: dict.fromkeys(facts.cpus, ()) for register in _COMPARED
        }
        for entry in trace["entries"]:
            written = self.written.get(entry["register"] or "", {})
            if entry["phase"] in window.phases and entry["cpu"] in written:
                written[entry["cpu"]] += (_text(entry["value"]),)
        event = facts.own_event(window.event)
        follows = not facts.kvm_without_svm() and not facts.enables_at_load()
        self.count = event["count"] if event and follows else None


def _values(facts: Facts, phase: str, name: str) -> dict[int, int | None]:
    if phase == "unloaded":
        unloaded = facts.evidence["trace"]["unloaded"] or {}
        return {cpu: as_int(unloaded.get(str(cpu), {}).get(name)) for cpu in facts.cpus}
    return facts.register(phase, name)


def _text(value: Reading) -> str:
    return value if isinstance(value, str) else f"(refused: {value['error'] if value else 'unknown'})"


def _writes(seen: _Seen) -> str:
    """The trace's writes of EFER, for people; "" for none."""
    written = seen.written[EFER.name]
    if not any(written.values()):
        return ""
    values = "; ".join(
        f"EFER written {', '.join(values)} on {cpu_names(cpus)}" if values else f"no write on {cpu_names(cpus)}"
        for values, cpus in group(written).items()
    )
    return f"{seen.window.title}: {values}"


def _contradictions(windows: list[_Seen], cpu: int) -> str:
    """In what the observers of one CPU contradict each other; "" where they do not."""
    texts = []
    for seen in windows:
        found = [_trace_against_registers(seen, cpu, register.name) for register in _COMPARED]
        texts += [f"{seen.window.title}: {text}" for text in (*found, _uevents_against_others(seen, cpu)) if text]
    return "; ".join(texts)


def _trace_against_registers(seen: _Seen, cpu: int, name: str) -> str:
    start, end, written = seen.start[name].get(cpu), seen.end[name].get(cpu), seen.written[name][cpu]
    if end is None or not seen.traced[cpu]:
        return ""
    if written:
        last = as_int(written[-1])
        if last is None or last == end:  # a write that the CPU refused leaves the register's value open
            return ""
        return f"the trace shows {name} written {written[-1]}, the registers show {hex(end)}"
    if start is None or start == end:
        return ""
    return f"the registers show {name} {hex(start)} -> {hex(end)}, the trace shows no write of it"


def _uevents_against_others(seen: _Seen, cpu: int) -> str:
    """COUNT shows whether a VM is alive, so whether SVME has to be 1; and whether ours was the first or the last."""
    if seen.count is None:
        return ""
    alone = seen.count == (1 if seen.window.event == "create" else 0)
    counted = f"the uevent counts {seen.count} VM{'' if seen.count == 1 else 's'}"
    end = seen.end[EFER.name].get(cpu)
    if end is not None and EFER.bit(end, "SVME") != (seen.count > 0):
        return f"{counted}, the registers show EFER {hex(end)}"
    writes = bool(seen.written[EFER.name][cpu])
    if seen.traced[cpu] and writes != alone:
        return f"{counted}, the trace shows {'a' if writes else 'no'} write of EFER"
    return ""
