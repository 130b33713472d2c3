"""Is this host itself a memory-encrypted guest?"""

from __future__ import annotations

from kvmprobe.judge.check_result import FAIL, PASS, UNKNOWN, Result
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.kernel_lines import is_confidential
from kvmprobe.model.registers import CPUID_HYPERVISOR, CPUID_SEV
from kvmprobe.model.values import error_of


def sev_guest(facts: Facts) -> Result:
    """has_svm(), since 6.12 __kvm_is_svm_supported(): cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT).

    Reads the MSR SEV_STATUS, which evidence has only where CPUID offers SEV to a guest, and the kernel's log: behind a
    paravisor CPUID hides SEV.
    Reason: sev-guest, unless KVM answers through another backend.
    """
    status = facts.evidence["cpus"]["sev_status"]
    if is_confidential(facts):
        reason = None if facts.kvm_without_svm() else "sev-guest"
        shown = "SEV_STATUS.SEV = 1" if facts.is_sev_guest() else "the kernel's log shows SEV"
        return Result(FAIL, f"{shown}: this host is a memory-encrypted guest", reason)  # the cause quotes the evidence
    error = error_of(status)
    if error:
        return Result(UNKNOWN, f"CPUID offers SEV to this guest, and SEV_STATUS could not be read: {error}")
    offered = {*facts.cpuid_bit(CPUID_SEV).values(), *facts.cpuid_bit(CPUID_HYPERVISOR).values()}
    if None in offered or not offered:
        return Result(UNKNOWN, "raw CPUID could not be read")
    if (facts.hypervisor() or "").startswith("Microsoft Hv"):
        return Result(
            UNKNOWN, "CPUID and the kernel's log show no SEV; a paravisor of Hyper-V would hide it from CPUID"
        )
    return Result(PASS, "not an SEV guest")
