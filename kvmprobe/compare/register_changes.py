"""Changes of the registers, by CPU and phase. Of VM_HSAVE_PA, which has an address, only whether each CPU has its own
page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvmprobe.compare.difference import CHANGED, NOT_COMPARABLE, SAME, Difference, Side, rate_numbers
from kvmprobe.judge.register_faults import register_faults
from kvmprobe.judge.svme_unowned import left_by_failed_create
from kvmprobe.model.cpu_lists import fold, format_cpulist
from kvmprobe.model.registers import EFER, SEV_STATUS, SNAPSHOT_REGISTERS, VM_CR, VM_HSAVE_PA, Register
from kvmprobe.model.values import SNAPSHOT_PHASES, error_of

_AREA = "registers"
OWN_PAGE, SHARED_PAGE, NO_PAGE = "a page each", "a shared page", "no address of a page"


def registers(old: Side, new: Side) -> Iterator[Difference]:
    """The registers of the snapshots that both reports have, and SEV_STATUS."""
    cpus = [format_cpulist(side.facts.cpus) or "unknown" for side in (old, new)]
    if cpus[0] != cpus[1]:
        note = "a register is compared only where all CPUs of a report have the same values"
        yield Difference(_AREA, "CPUs online", NOT_COMPARABLE, cpus[0], cpus[1], note)
    found = [[phase for phase in SNAPSHOT_PHASES if side.facts.has_snapshot(phase)] for side in (old, new)]
    if found[0] != found[1]:
        was, now = (", ".join(phases) or "none" for phases in found)
        yield Difference(_AREA, "snapshots", NOT_COMPARABLE, was, now, "only the snapshots of both are compared")
    phases = [phase for phase in SNAPSHOT_PHASES if phase in found[0] and phase in found[1]]
    for register in SNAPSHOT_REGISTERS if phases else ():
        yield _register(register, phases, old, new)
    yield from _sev_status(old, new)


def _register(register: Register, phases: Sequence[str], old: Side, new: Side) -> Difference:
    values = [_values(side, register, phases) for side in (old, new)]
    are_equal = [len(set(by_cpu.values())) == 1 for by_cpu in values]
    was, now = map(_text, values)
    if values[0] == values[1] or (all(are_equal) and was == now):
        return Difference(_AREA, register.name, SAME, was, now)
    unread = [name for name, side in (("OLD", old), ("NEW", new)) if _is_unread(side, register, phases)]
    if unread:
        note = f"not readable in {' and '.join(unread)}"
        return Difference(_AREA, register.name, NOT_COMPARABLE, was, now, note)
    if old.facts.cpus != new.facts.cpus and not all(are_equal):
        return Difference(_AREA, register.name, NOT_COMPARABLE, was, now, "the CPUs differ")
    bits = [_bits(side, register, phases) for side in (old, new)]
    note = ", ".join(bit for bit in register.bits if bits[0][bit] != bits[1][bit])
    rating = rate_numbers(_faults(old, register, phases), _faults(new, register, phases))
    return Difference(_AREA, register.name, rating, was, now, note)


def _values(side: Side, register: Register, phases: Sequence[str]) -> dict[int, tuple[str, ...]]:
    """By CPU: the value of the register in each phase."""
    texts = {phase: side.facts.register_cells(phase, register.name) for phase in phases}
    if register is VM_HSAVE_PA:
        texts = {phase: page_texts(by_cpu) for phase, by_cpu in texts.items()}
    return {cpu: tuple(texts[phase][cpu] for phase in phases) for cpu in side.facts.cpus}


def page_texts(values: dict[int, str]) -> dict[int, str]:
    """OWN_PAGE, SHARED_PAGE or NO_PAGE in place of each address; "0x0" and errors stay."""
    number: dict[str, int] = {}
    for value in values.values():
        number[value] = number.get(value, 0) + 1
    return {cpu: _page_text(value, number[value]) for cpu, value in values.items()}


def _page_text(value: str, number: int) -> str:
    if not value.startswith("0x") or value == "0x0":
        return value
    return NO_PAGE if not value.endswith("000") else OWN_PAGE if number == 1 else SHARED_PAGE


def _text(values: dict[int, tuple[str, ...]]) -> str:
    return fold({cpu: _steps(steps) for cpu, steps in values.items()})


def _steps(values: tuple[str, ...]) -> str:
    if len(set(values)) == 1:
        return values[0] + (" throughout" if len(values) > 1 else "")
    return " -> ".join(values)


def _is_unread(side: Side, register: Register, phases: Sequence[str]) -> bool:
    return any(None in side.facts.register(phase, register.name).values() for phase in phases)


def _bits(side: Side, register: Register, phases: Sequence[str]) -> dict[str, list[list[bool]]]:
    """By the name of a bit: for each phase, the values that it has on any CPU."""
    values = [side.facts.register(phase, register.name).values() for phase in phases]
    return {
        bit: [sorted({register.bit(value or 0, bit) for value in in_phase}) for in_phase in values]
        for bit in register.bits
    }


def _faults(side: Side, register: Register, phases: Sequence[str]) -> int:
    """How many CPUs have a value that is wrong with every kernel. SVME without a VM depends on the kernel."""
    bad = set(register_faults(side.facts).get(register.name, ()))
    if register is EFER and side.facts.vm_created:
        bad.update(cpu for cpu, value in side.facts.svme("created").items() if value is False)
    if register is EFER:
        bad.update(left_by_failed_create(side.facts))
    if register is VM_CR:
        values = side.facts.register(phases[0], VM_CR.name)
        bad.update(cpu for cpu, value in values.items() if VM_CR.bit(value or 0, "SVMDIS"))
    return len(bad)


def _sev_status(old: Side, new: Side) -> Iterator[Difference]:
    readings = [side.evidence["cpus"]["sev_status"] for side in (old, new)]
    was, now = (error_of(reading) or reading or "not read" for reading in readings)
    if was != now:
        is_comparable = all(isinstance(reading, str) for reading in readings)
        yield Difference(_AREA, SEV_STATUS.name, CHANGED if is_comparable else NOT_COMPARABLE, was, now)
