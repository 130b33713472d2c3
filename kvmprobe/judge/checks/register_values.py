"""Did KVM keep the registers as they must be?"""

from __future__ import annotations

from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, CpuResult, Result, by_cpu, why_unread
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.register_faults import register_faults
from kvmprobe.model.cpu_lists import cpu_names, few_groups, group
from kvmprobe.model.registers import SNAPSHOT_REGISTERS
from kvmprobe.model.values import SNAPSHOT_PHASES


def has_faults(facts: Facts) -> bool:
    """Whether some register is not as it must be, whether a VM was created or not."""
    return any(register_faults(facts).values())


def register_values(facts: Facts) -> Result:
    """svm_hardware_enable(), svm_hardware_disable(), and their successors since 6.12, in arch/x86/kvm/svm/svm.c.

    Reads EFER, VM_CR and VM_HSAVE_PA in each snapshot, and those that `trace` read before kvm_amd was loaded.
    Reason: register-corrupted.
    """
    faults = register_faults(facts)
    if any(faults.values()):
        because = [line for found in faults.values() for line in _lines(found)]
        texts = {cpu: "; ".join(found[cpu] for found in faults.values() if cpu in found) for cpu in facts.cpus}
        message = "; ".join(lines[0] for found in faults.values() if (lines := _lines(found)))
        return Result(FAIL, message, "register-corrupted", because=because, by_cpu=by_cpu(texts, _of_cpu))
    if facts.kvm_without_svm():
        return Result(SKIP, f"{facts.backend_text()} does not use them")
    for phase in filter(facts.has_snapshot, SNAPSHOT_PHASES):
        unread = [one.name for one in SNAPSHOT_REGISTERS if None in facts.register(phase, one.name).values()]
        if unread:
            why = why_unread(facts.register_errors(phase, unread[0]))
            return Result(UNKNOWN, f"{', '.join(unread)} could not be read on every CPU{why}")
    cpus = facts.there("created")
    if not cpus:
        return Result(UNKNOWN, "no CPU was online during the whole probe")
    return Result(PASS, f"each CPU has its own page in VM_HSAVE_PA, of EFER only SVME changed: {cpu_names(cpus)}")


def _lines(faults: dict[int, str]) -> list[str]:
    """["cpu1-2: VM_HSAVE_PA is 0 although SVME is 1"]: a line for each group of CPUs; see few_groups."""
    first, more = few_groups(group(faults))
    return [f"{cpu_names(cpus)}: {text}" for text, cpus in first] + ([more] if more else [])


def _of_cpu(_: int, text: str) -> CpuResult:
    return CpuResult(FAIL if text else PASS, text or "the registers are as they must be")
