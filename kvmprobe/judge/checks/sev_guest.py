"""Is this host itself a memory-encrypted guest?"""

from __future__ import annotations

from kvmprobe.judge.check_result import FAIL, PASS, UNKNOWN, Result
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import text_of
from kvmprobe.model.registers import CPUID_HYPERVISOR, CPUID_SEV
from kvmprobe.model.values import error_of


def sev_guest(facts: Facts) -> Result:
    """has_svm(), since 6.12 __kvm_is_svm_supported(): cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT).

    Reads the MSR SEV_STATUS, which evidence has only where CPUID offers SEV to a guest.
    Reason: sev-guest, unless KVM answers through another backend.
    """
    status = facts.evidence["cpus"]["sev_status"]
    if facts.is_sev_guest():
        reason = None if facts.kvm_without_svm() else "sev-guest"
        message = "SEV_STATUS.SEV = 1: this host is a memory-encrypted guest"
        return Result(FAIL, message, reason, because=[f"SEV_STATUS = {text_of(status)}"])
    error = error_of(status)
    if error:
        return Result(UNKNOWN, f"CPUID offers SEV to this guest, and SEV_STATUS could not be read: {error}")
    offered = {*facts.cpuid_bit(CPUID_SEV).values(), *facts.cpuid_bit(CPUID_HYPERVISOR).values()}
    if None in offered:
        return Result(UNKNOWN, "raw CPUID could not be read")
    return Result(PASS, "not an SEV guest")
