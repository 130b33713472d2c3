"""Does the firmware allow SVM?"""

from __future__ import annotations

from kvmprobe.judge.check_result import FAIL, PASS, UNKNOWN, CpuResult, Result, bits, by_cpu, quote, why_unread
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.kernel_lines import refusal_texts
from kvmprobe.model.cpu_lists import cpu_names, fold
from kvmprobe.model.registers import VM_CR

SVML_BIT = "CPUID 0x8000000A EDX.SVML"


def firmware(facts: Facts) -> Result:
    """is_disabled(), since 6.12 __kvm_is_svm_supported(): VM_CR.SVMDIS.

    Reads VM_CR (SVMDIS, LOCK) and CPUID 0x8000000A EDX.SVML; where no VM_CR could be read, the kernel's log. SVML says
    that the CPU knows SVM_KEY, not that a key was set: every AMD CPU since family 0x10 has it (AMD APM volume 2, 15.4
    and 15.31).
    Reasons: firmware-disabled; cpus-disagree where SVMDIS differs.
    """
    values, disabled = facts.register("before", VM_CR.name), facts.svmdis()
    texts = facts.register_texts("before", VM_CR.name)
    parts = by_cpu(texts, lambda cpu, _: _of_cpu(facts, cpu))
    because = quote(texts, VM_CR.name)
    off = [cpu for cpu, value in disabled.items() if value]
    if off and False in disabled.values():
        message = f"VM_CR = {fold(values)}: SVMDIS = 1 on {cpu_names(off)} only"
        return Result(FAIL, message, "cpus-disagree", because=because, by_cpu=parts)
    if off:
        lock, svml = _lock(facts, off), _svml(facts, off)
        message = f"VM_CR = {fold(values)}: SVMDIS = 1, LOCK = {fold(bits(lock))}; SVML = {fold(bits(svml))}"
        because += quote(bits(svml), SVML_BIT)
        return Result(FAIL, message, "firmware-disabled", because=because, by_cpu=parts)
    unread = [cpu for cpu, value in disabled.items() if value is None]
    logged = refusal_texts(facts, "svmdis") if len(unread) == len(disabled) else []
    if logged:
        message = f"VM_CR could not be read, and the kernel found SVM disabled: {logged[-1]}"
        return Result(FAIL, message, "firmware-disabled", because=because, by_cpu=parts)
    if unread:
        why = why_unread(facts.register_errors("before", VM_CR.name))
        return Result(UNKNOWN, f"VM_CR could not be read on {cpu_names(unread)}{why}", by_cpu=parts)
    return Result(PASS, f"VM_CR = {fold(values)}: SVMDIS = 0", by_cpu=parts)


def _of_cpu(facts: Facts, cpu: int) -> CpuResult:
    value, disabled = facts.register_texts("before", VM_CR.name)[cpu], facts.svmdis()[cpu]
    if disabled is None:
        return CpuResult(UNKNOWN, f"VM_CR could not be read: {value}")
    if not disabled:
        return CpuResult(PASS, f"VM_CR = {value}: SVMDIS = 0")
    lock, svml = bits(_lock(facts, [cpu])), bits(_svml(facts, [cpu]))
    return CpuResult(FAIL, f"VM_CR = {value}: SVMDIS = 1, LOCK = {lock[cpu]}; SVML = {svml[cpu]}")


def _lock(facts: Facts, cpus: list[int]) -> dict[int, bool | None]:
    values = facts.register("before", VM_CR.name)
    return {cpu: VM_CR.bit_of(values[cpu], "LOCK") for cpu in cpus}


def _svml(facts: Facts, cpus: list[int]) -> dict[int, bool | None]:
    svml = facts.svml()
    return {cpu: svml[cpu] for cpu in cpus}
