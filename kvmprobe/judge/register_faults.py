"""Registers that the kernel must not have left as they are, for the check of the registers and for `compare`."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.other_vms import others_after
from kvmprobe.model.register_rules import CONSTANT, changed_bits, host_save_faults
from kvmprobe.model.registers import EFER, VM_HSAVE_PA, svme
from kvmprobe.model.values import SNAPSHOT_PHASES, as_int

if TYPE_CHECKING:
    from kvmprobe.model.registers import Register

    _Svme = dict[int, bool | None]


def register_faults(facts: Facts) -> dict[str, dict[int, str]]:
    """What is wrong first, for people, by the register's name and by CPU. Nothing of what is unknown."""
    if facts.kvm_without_svm():
        return {}
    found = {register.name: _by_cpu(_changes(facts, register)) for register in CONSTANT}
    return {**found, VM_HSAVE_PA.name: _by_cpu(_host_save_areas(facts))}


def _by_cpu(parts: Iterator[dict[int, str]]) -> dict[int, str]:
    found: dict[int, str] = {}
    for part in parts:
        found = {**part, **found}
    return {cpu: found[cpu] for cpu in sorted(found)}


def _changes(facts: Facts, register: Register) -> Iterator[dict[int, str]]:
    """Each value against the first that is known of its CPU."""
    first = _unloaded(facts, register.name)
    for phase in SNAPSHOT_PHASES:
        values = facts.register(phase, register.name)
        yield changed_bits(register, first, values)
        first.update((cpu, value) for cpu, value in values.items() if first.get(cpu) is None)


def _unloaded(facts: Facts, name: str) -> dict[int, int | None]:
    """A register by CPU before `trace` loaded kvm_amd; of no CPU without such a trace."""
    unloaded = facts.evidence["trace"]["unloaded"] if "trace" in facts.evidence else None
    return {int(cpu): as_int(registers[name]) for cpu, registers in (unloaded or {}).items()}


def _host_save_areas(facts: Facts) -> Iterator[dict[int, str]]:
    """VM_HSAVE_PA where KVM's own SVME cannot change between the readings of two registers."""
    created, closed = facts.svme("created"), facts.svme("closed")
    if facts.vm_created:
        yield _in_phase(facts, "created", _where(created, True), "while a VM was alive")
    if facts.enabled_at_load():
        for phase in ("before", "closed"):
            yield _in_phase(facts, phase, _where(facts.svme(phase), True), "with kvm.enable_virt_at_load=Y")
    # Another VM that comes or goes changes EFER and VM_HSAVE_PA, one after the other.
    elif facts.vm_created and True not in closed.values() and not others_after(facts):
        were_set = {cpu: value for cpu, value in closed.items() if created.get(cpu)}
        yield _in_phase(facts, "closed", _where(were_set, False), "after the last VM")
    values = {cpu: svme(value) for cpu, value in _unloaded(facts, EFER.name).items()}
    pages = _unloaded(facts, VM_HSAVE_PA.name)
    yield _titled(host_save_faults(_where(values, False), pages), "while kvm_amd was not loaded")


def _where(svme: _Svme, value: bool) -> _Svme:
    return {cpu: found for cpu, found in svme.items() if found is value}


def _in_phase(facts: Facts, phase: str, svme: _Svme, when: str) -> dict[int, str]:
    return _titled(host_save_faults(svme, facts.register(phase, VM_HSAVE_PA.name)), when)


def _titled(faults: dict[int, str], when: str) -> dict[int, str]:
    return {cpu: f"{text} {when}" for cpu, text in faults.items()}
