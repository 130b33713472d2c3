"""The registers as a table: before KVM_CREATE_VM, after it, and with the VM closed."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe.formats.text_lines import Line
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import cpu_names, few_groups, group
from kvmprobe.model.printable import columns, counted, cut
from kvmprobe.model.registers import SNAPSHOT_REGISTERS, VM_HSAVE_PA
from kvmprobe.model.values import SNAPSHOT_PHASES, error_of

_LONGEST, _CUT = 24, 14  # characters of a list of CPUs, whole and cut


def table(facts: Facts, every_cpu: bool, merge: bool = False) -> Iterator[Line]:
    """A row for each register, and for each group of CPUs with the same values; for each CPU if `every_cpu`.

    `merge`: registers with the same values share a row.
    """
    phases = [phase for phase in SNAPSHOT_PHASES if facts.has_snapshot(phase)]
    if not phases or not facts.cpus:
        return
    unread = _unread(facts, phases)
    if unread and not every_cpu:
        names = ", ".join(register.name for register in SNAPSHOT_REGISTERS)
        yield Line(f"{names} could not be read on {cpu_names(facts.cpus)}: {unread}")
        return
    titles = _titles(facts)
    rows = [["", "", *(titles[phase] for phase in phases)]]
    for register in SNAPSHOT_REGISTERS:
        values = {phase: facts.register_cells(phase, register.name) for phase in phases}
        if register is VM_HSAVE_PA and not every_cpu:
            values = {phase: _pages(texts) for phase, texts in values.items()}
        by_cpu = {cpu: tuple(values[phase][cpu] for phase in phases) for cpu in facts.cpus}
        if every_cpu:
            rows += [[register.name, f"cpu{cpu}", *row] for cpu, row in by_cpu.items()]
        else:
            first, more = few_groups(group(by_cpu))
            rows += [[register.name, _names(cpus), *row] for row, cpus in first]
            if more:
                rows.append([register.name, more])
    yield from map(Line, columns(_merged(rows) if merge else rows))


def _merged(rows: list[list[str]]) -> list[list[str]]:
    names: dict[tuple[str, ...], list[str]] = {}
    for name, *others in rows:
        names.setdefault(tuple(others), []).append(name)
    return [[", ".join(of_row), *others] for others, of_row in names.items()]


def brief(facts: Facts, every_cpu: bool) -> Iterator[Line]:
    """One line where each register has one value on all CPUs at all times; else the table."""
    phases = [phase for phase in SNAPSHOT_PHASES if facts.has_snapshot(phase)]
    values = {name: _values(facts, phases, name) for name in (register.name for register in SNAPSHOT_REGISTERS)}
    if not phases or _unread(facts, phases) or any(len(set(found)) != 1 for found in values.values()):
        yield from table(facts, every_cpu, merge=True)
        return
    always = " at all times" if len(phases) > 1 else ""
    texts = ", ".join(f"{name} {found[0]}" for name, found in values.items())
    yield Line(f"{texts} on {_names(facts.cpus)}{always}")


def _values(facts: Facts, phases: list[str], name: str) -> list[str]:
    """The texts of a register on all CPUs in all phases."""
    texts = [facts.register_cells(phase, name) for phase in phases]
    folded = map(_pages, texts) if name == VM_HSAVE_PA.name else texts
    return [value for of_phase in folded for value in of_phase.values()]


def _names(cpus: list[int]) -> str:
    """ "cpu0-3,8", or the beginning of a long list and how many CPUs it has: the table has to fit a terminal."""
    names = cpu_names(cpus)
    return names if len(names) <= _LONGEST else f"{cut(names, _CUT, '...')} ({counted(len(cpus), 'CPU')})"


def _unread(facts: Facts, phases: list[str]) -> str | None:
    """The one error because of which no register was ever read; None where there is more to show."""
    pairs = [(phase, register.name) for phase in phases for register in SNAPSHOT_REGISTERS]
    errors = {error for pair in pairs for error in facts.register_errors(*pair).values()}
    is_read = any(value is not None for pair in pairs for value in facts.register(*pair).values())
    return errors.pop() if len(errors) == 1 and not is_read else None


def _titles(facts: Facts) -> dict[str, str]:
    """The titles of the columns. Nothing is created or closed where KVM_CREATE_VM failed."""
    if facts.vm_created:
        return dict(zip(SNAPSHOT_PHASES, SNAPSHOT_PHASES))
    created = "KVM_CREATE_VM failed" if error_of(facts.create_vm) else "no VM created"
    return dict(zip(SNAPSHOT_PHASES, ("before", created, "at the end")))


def _pages(texts: dict[int, str]) -> dict[int, str]:
    """VM_HSAVE_PA differs on each CPU: what matters is whether each CPU has a page of its own (APM vol. 2, 15.30.4)."""
    addresses = [value for value in texts.values() if value.startswith("0x") and value != "0x0"]
    pages = set(addresses)
    if len(pages) < len(addresses):
        return texts  # two CPUs share a page, so the values matter
    return {cpu: "a page each" if value in pages else value for cpu, value in texts.items()}
