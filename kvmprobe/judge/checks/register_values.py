"""Did KVM keep the registers as they must be?"""

from __future__ import annotations

from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, CpuResult, Result, by_cpu, quote, why_unread
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.register_faults import register_faults
from kvmprobe.model.cpu_lists import cpu_names
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
    faults: dict[int, str] = {}
    for of_register in register_faults(facts).values():
        for cpu, texts in of_register.items():
            faults[cpu] = "; ".join([*([faults[cpu]] if cpu in faults else []), *texts])
    if faults:
        because = quote(faults, "", "")
        parts = by_cpu({cpu: faults.get(cpu, "") for cpu in facts.cpus}, _of_cpu)
        return Result(FAIL, "; ".join(because), "register-corrupted", because=because, by_cpu=parts)
    if facts.kvm_without_svm():
        return Result(SKIP, f"{facts.backend_text()} does not use them")
    for phase in filter(facts.has_snapshot, SNAPSHOT_PHASES):
        unread = [one.name for one in SNAPSHOT_REGISTERS if None in facts.register(phase, one.name).values()]
        if unread:
            why = why_unread(facts.register_errors(phase, unread[0]))
            return Result(UNKNOWN, f"{', '.join(unread)} could not be read on every CPU{why}")
    cpus = cpu_names(facts.there("created"))
    return Result(PASS, f"each CPU has its own page in VM_HSAVE_PA, of EFER only SVME changed: {cpus}")


def _of_cpu(_: int, text: str) -> CpuResult:
    return CpuResult(FAIL if text else PASS, text or "the registers are as they must be")
