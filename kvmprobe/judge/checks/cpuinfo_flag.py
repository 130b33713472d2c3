"""Does the kernel show the CPU's SVM, or hide it?"""

from __future__ import annotations

from kvmprobe.judge.check_result import PASS, UNKNOWN, WARN, CpuResult, Result, by_cpu
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import cpu_names, fold, text_of


def cpuinfo_flag(facts: Facts) -> Result:
    """init_amd() in arch/x86/kernel/cpu/amd.c: since 6.7 it clears the flag svm where VM_CR.SVMDIS is 1.

    Reads the flags of /proc/cpuinfo and raw CPUID. Gives no reason: it explains other tools' answers.
    """
    svm, flag = facts.svm(), facts.svm_flag()
    parts = by_cpu({cpu: (svm[cpu], flag[cpu]) for cpu in svm}, _of_cpu)
    hidden = [cpu for cpu in svm if svm[cpu] and flag[cpu] is False]
    both = f"svm in the flags of /proc/cpuinfo: {fold(flag)}; in raw CPUID: {fold(svm)}"
    if hidden:
        message = f"the kernel hides svm on {cpu_names(hidden)}: only raw CPUID has it"
        return Result(WARN, message, by_cpu=parts)
    if None in flag.values() or None in svm.values() or not svm:
        return Result(UNKNOWN, both, by_cpu=parts)
    return Result(PASS if flag == svm else WARN, both, by_cpu=parts)


def _of_cpu(_: int, values: tuple[bool | None, bool | None]) -> CpuResult:
    svm, flag = values
    message = f"svm in the flags of /proc/cpuinfo: {text_of(flag)}; in raw CPUID: {text_of(svm)}"
    return CpuResult(UNKNOWN if None in values else PASS if svm == flag else WARN, message)
