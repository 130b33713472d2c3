"""What changed in the registers, by CPU and phase; of addresses only whether each CPU has a page of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvmprobe.compare.difference import CHANGED, NOT_COMPARABLE, SAME, Difference, Side, rate
from kvmprobe.model.cpu_lists import cpu_names, format_cpulist, group
from kvmprobe.model.registers import EFER, SEV_STATUS, SNAPSHOT_REGISTERS, VM_CR, VM_HSAVE_PA, Register
from kvmprobe.model.values import SNAPSHOT_PHASES, error_of

_AREA = "registers"


def registers(old: Side, new: Side) -> Iterator[Difference]:
    cpus = [format_cpulist(side.facts.cpus) for side in (old, new)]
    if cpus[0] != cpus[1]:
        note = "registers are compared where all CPUs of each are alike"
        yield Difference(_AREA, "CPUs online", NOT_COMPARABLE, cpus[0], cpus[1], note)
    seen = [[phase for phase in SNAPSHOT_PHASES if side.facts.has_snapshot(phase)] for side in (old, new)]
    if seen[0] != seen[1]:
        was, now = (", ".join(phases) or "none" for phases in seen)
        yield Difference(_AREA, "looks at the registers", NOT_COMPARABLE, was, now, "compared is what both have")
    phases = [phase for phase in SNAPSHOT_PHASES if phase in seen[0] and phase in seen[1]]
    for register in SNAPSHOT_REGISTERS if phases else ():
        yield _register(register, phases, old, new)
    yield from _sev_status(old, new)


def _register(register: Register, phases: Sequence[str], old: Side, new: Side) -> Difference:
    stories = [_stories(side, register, phases) for side in (old, new)]
    alike = [len(set(by_cpu.values())) == 1 for by_cpu in stories]
    was, now = map(_show, stories)
    if stories[0] == stories[1] or (all(alike) and was == now):
        return Difference(_AREA, register.name, SAME, was, now)
    unread = [side_name for side_name, side in (("OLD", old), ("NEW", new)) if _unread(side, register, phases)]
    if unread:
        note = f"not readable in {' and '.join(unread)}"
        return Difference(_AREA, register.name, NOT_COMPARABLE, was, now, note)
    if old.facts.cpus != new.facts.cpus and not all(alike):
        return Difference(_AREA, register.name, NOT_COMPARABLE, was, now, "other CPUs")
    bits = [_set_bits(side, register, phases) for side in (old, new)]
    note = ", ".join(bit for bit in register.bits if bits[0][bit] != bits[1][bit])
    rating = rate(_faults(old, register, phases), _faults(new, register, phases))
    return Difference(_AREA, register.name, rating, was, now, note)


def _stories(side: Side, register: Register, phases: Sequence[str]) -> dict[int, tuple[str, ...]]:
    """By CPU: what the register was in each phase."""
    shown = {phase: side.facts.register_texts(phase, register.name) for phase in phases}
    if register is VM_HSAVE_PA:
        shown = {phase: pages(values) for phase, values in shown.items()}
    return {cpu: tuple(shown[phase][cpu] for phase in phases) for cpu in side.facts.cpus}


def pages(values: dict[int, str]) -> dict[int, str]:
    """Addresses by CPU as what matters of them; "0x0" and what is no address stay."""
    addresses = [value for value in values.values() if value.startswith("0x")]
    return {
        cpu: value
        if not value.startswith("0x") or value == "0x0"
        else "a page each"
        if addresses.count(value) == 1
        else "a shared page"
        for cpu, value in values.items()
    }


def _show(stories: dict[int, tuple[str, ...]]) -> str:
    groups = group(stories)
    if len(groups) == 1:
        return _story(next(iter(groups)))
    return ", ".join(f"{_story(story)} on {cpu_names(cpus)}" for story, cpus in groups.items())


def _story(values: tuple[str, ...]) -> str:
    if len(set(values)) == 1:
        return values[0] + (" throughout" if len(values) > 1 else "")
    return " → ".join(values)


def _unread(side: Side, register: Register, phases: Sequence[str]) -> bool:
    return any(None in side.facts.register(phase, register.name).values() for phase in phases)


def _set_bits(side: Side, register: Register, phases: Sequence[str]) -> dict[str, list[list[bool]]]:
    """By name of a bit: in each phase, the states it has on any CPU."""
    values = [side.facts.register(phase, register.name).values() for phase in phases]
    return {
        bit: [sorted({register.bit(value or 0, bit) for value in in_phase}) for in_phase in values]
        for bit in register.bits
    }


def _faults(side: Side, register: Register, phases: Sequence[str]) -> int:
    """How many CPUs show what is wrong in any kernel. SVME before a VM or after it is not: it depends on the kernel."""
    if register is EFER:
        svme = side.facts.svme("created").values() if side.facts.vm_created else ()
        return sum(value is False for value in svme)
    if register is VM_CR:
        values = side.facts.register(phases[0], VM_CR.name).values()
        return sum(VM_CR.bit(value or 0, "SVMDIS") for value in values)
    return sum("a shared page" in story for story in _stories(side, register, phases).values())


def _sev_status(old: Side, new: Side) -> Iterator[Difference]:
    readings = [side.evidence["cpus"]["sev_status"] for side in (old, new)]
    was, now = (error_of(reading) or reading or "not read" for reading in readings)
    if was != now:
        comparable = all(isinstance(reading, str) for reading in readings)
        yield Difference(_AREA, SEV_STATUS.name, CHANGED if comparable else NOT_COMPARABLE, was, now)
