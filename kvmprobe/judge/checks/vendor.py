"""Is this a CPU of AMD or Hygon?"""

from __future__ import annotations

from kvmprobe.judge.check_result import FAIL, PASS, UNKNOWN, CpuResult, Result, by_cpu, quote
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import fold, group

_VENDORS = ("AuthenticAMD", "HygonGenuine")
_X86 = ("x86_64", "i686", "i586", "i386")


def vendor(facts: Facts) -> Result:
    """has_svm(), since 6.12 __kvm_is_svm_supported(): the vendor.

    Reads the machine (uname -m), and the vendor by CPUID leaf 0, else by /proc/cpuinfo.
    Reasons: vendor-not-amd; kvm-without-svm where KVM answers through another backend; cpus-disagree.
    """
    machine = facts.evidence["host"]["machine"]
    if machine not in _X86:
        message = f"the machine is {machine}; only x86 has SVM"
        return Result(FAIL, message, "vendor-not-amd", because=[f"machine = {machine}"])
    vendors = facts.vendors()
    parts = by_cpu(vendors, _of_cpu)
    if None in vendors.values() or not vendors:
        return Result(UNKNOWN, f"the vendor could not be read on every CPU: {fold(vendors) or UNKNOWN}", by_cpu=parts)
    if all(vendor in _VENDORS for vendor in vendors.values()):
        return Result(PASS, fold(vendors), by_cpu=parts)
    because = quote(vendors, "vendor")
    if len(group(vendors)) > 1:
        message = f"the CPUs have different vendors: {fold(vendors)}"
        return Result(FAIL, message, "cpus-disagree", because=because, by_cpu=parts)
    message = f"{fold(vendors)} is neither AuthenticAMD nor HygonGenuine"
    if facts.kvm_without_svm():
        message += f"; KVM {facts.answers_through()}"
        return Result(FAIL, message, "kvm-without-svm", because=[*because, *facts.backend_evidence()])
    return Result(FAIL, message, "vendor-not-amd", because=because)


def _of_cpu(_: int, vendor: str | None) -> CpuResult:
    if vendor is None:
        return CpuResult(UNKNOWN, "the vendor could not be read")
    if vendor in _VENDORS:
        return CpuResult(PASS, vendor)
    return CpuResult(FAIL, f"{vendor} is neither AuthenticAMD nor HygonGenuine")
