"""SVM that another owner holds: what kvm-amd, kvm-device and create-vm give where EFER.SVME is set, and not by KVM."""

from __future__ import annotations

from kvmprobe.judge.check_result import FAIL, PASS, UNKNOWN, CpuResult, Result, by_cpu, quote
from kvmprobe.judge.facts import Facts

_HELD = {
    True: CpuResult(FAIL, "EFER.SVME was 1, and KVM had not set it"),
    False: CpuResult(PASS, "EFER.SVME was 0"),
    None: CpuResult(UNKNOWN, "EFER could not be read"),
}


def svm_is_held(facts: Facts, message: str, answer: str) -> Result:
    """A failure with the reason svm-held-by-another-owner; the parts by CPU show where SVME was set.

    `answer`: what the kernel answered, for `because`.
    """
    because = [*quote(facts.register_texts("before", "EFER"), "EFER"), answer]
    parts = by_cpu(facts.svme("before"), lambda _, value: _HELD[value])
    return Result(FAIL, message, "svm-held-by-another-owner", because=because, by_cpu=parts)
