"""Does CPUID have leaf 0x8000000A, which describes SVM?"""

from __future__ import annotations

from kvmprobe.judge.check_result import PASS, UNKNOWN, WARN, CpuResult, Result, by_cpu
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import cpu_names, fold, text_of
from kvmprobe.model.registers import LEAF_SVM

_EFFECT = "no nested paging, and older kernels refuse to load kvm_amd"


def extended_leaf(facts: Facts) -> Result:
    """has_svm(), since 6.12 __kvm_is_svm_supported(): the highest extended leaf ("can't execute cpuid_8000000a").

    Reads CPUID 0x80000000 EAX. Gives no reason: current kernels load kvm_amd without that leaf.
    """
    highest = facts.highest_extended()
    parts = by_cpu(highest, _of_cpu)
    text = f"the highest extended leaf is {fold(highest) or UNKNOWN}"
    if None in highest.values() or not highest:
        return Result(UNKNOWN, text, by_cpu=parts)
    low = [cpu for cpu, value in highest.items() if value is not None and value < LEAF_SVM]
    if low:
        return Result(WARN, f"{text}, below {LEAF_SVM:#x} on {cpu_names(low)}: {_EFFECT}", by_cpu=parts)
    return Result(PASS, text, by_cpu=parts)


def _of_cpu(_: int, highest: int | None) -> CpuResult:
    if highest is None:
        return CpuResult(UNKNOWN, "the highest extended leaf could not be read")
    text = f"the highest extended leaf is {text_of(highest)}"
    if highest < LEAF_SVM:
        return CpuResult(WARN, f"{text}, below {LEAF_SVM:#x}: {_EFFECT}")
    return CpuResult(PASS, text)
