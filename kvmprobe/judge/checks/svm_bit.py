"""Does the CPU have SVM?"""

from __future__ import annotations

from kvmprobe.judge.check_result import FAIL, PASS, UNKNOWN, CpuResult, Result, bits, by_cpu, quote
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.kernel_lines import bit_clear_lines, is_confidential
from kvmprobe.model.cpu_lists import cpu_names, fold, text_of
from kvmprobe.model.registers import hypervisor_name

SVM_BIT = "CPUID 0x80000001 ECX.SVM"
_FLAG = "svm in the flags of /proc/cpuinfo"


def svm_bit(facts: Facts) -> Result:
    """has_svm(), since 6.12 __kvm_is_svm_supported(): the CPU's SVM bit.

    Reads raw CPUID 0x80000001 ECX bit 2; where that could not be read, the flags of /proc/cpuinfo and the kernel's log.
    Reasons: cpu-lacks-svm; kvm-without-svm where KVM answers through another backend; cpus-disagree.
    """
    svm, flag = facts.svm(), facts.svm_flag()
    lacking = [cpu for cpu, value in svm.items() if value is False]
    parts = by_cpu(svm, lambda cpu, value: _of_cpu(value, flag[cpu]))
    if svm and all(svm.values()):
        return Result(PASS, f"{SVM_BIT} = 1 on {cpu_names(svm)}")
    because = quote(bits(svm), SVM_BIT)
    if lacking and any(svm.values()):
        return Result(FAIL, f"{SVM_BIT} = {fold(bits(svm))}", "cpus-disagree", because=because, by_cpu=parts)
    if lacking:
        message = f"{SVM_BIT} = 0 on {cpu_names(lacking)}"
    else:
        unread = [cpu for cpu, value in svm.items() if value is None]
        where = f" on {cpu_names(unread)}" if unread else ""
        message = f"raw CPUID could not be read{where}; {_FLAG}: {fold(flag)}"
    outer = facts.hypervisor()
    if outer:
        message += f" (a VM under {hypervisor_name(outer)})"
        because.append(f"hypervisor = {outer}")
    if facts.kvm_without_svm():
        message += f"; KVM {facts.answers_through()}"
        because += facts.backend_evidence()
        return Result(FAIL, message, "kvm-without-svm", because=because, by_cpu=parts)
    if lacking:
        # In an SEV guest the hypervisor leaves SVM out on purpose: the check sev-guest gives the reason. Where this
        # process may not open a registered /dev/kvm, another backend may answer there: the check kvm-device gives it.
        reason = None if is_confidential(facts) or facts.may_not_open() else "cpu-lacks-svm"
        return Result(FAIL, message, reason, because=because, by_cpu=parts)
    logged = [] if any(flag.values()) else bit_clear_lines(facts)
    if logged and not is_confidential(facts):
        return Result(FAIL, f"{message}; the kernel found no SVM: {logged[-1]}", "cpu-lacks-svm", by_cpu=parts)
    return Result(PASS if flag and all(flag.values()) else UNKNOWN, message, by_cpu=parts)


def _of_cpu(svm: bool | None, flag: bool | None) -> CpuResult:
    if svm is None:
        return CpuResult(PASS if flag else UNKNOWN, f"raw CPUID could not be read; {_FLAG}: {text_of(flag)}")
    return CpuResult(PASS if svm else FAIL, f"{SVM_BIT} = {svm:d}")
