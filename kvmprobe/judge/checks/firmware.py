"""Does the firmware allow SVM?"""

from __future__ import annotations

from kvmprobe.judge.check_result import (
    FAIL,
    PASS,
    UNKNOWN,
    CpuResult,
    Result,
    bits,
    by_cpu,
    quote,
    text_of_bit,
    why_unread,
)
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
    texts, disabled, svml = facts.register_texts("before", VM_CR.name), facts.svmdis(), facts.svml()
    lock = {cpu: VM_CR.bit_of(value, "LOCK") for cpu, value in facts.register("before", VM_CR.name).items()}
    parts = by_cpu(texts, lambda cpu, text: _of_cpu(text, disabled[cpu], lock[cpu], svml.get(cpu)))
    because = quote(texts, VM_CR.name)
    value = f"VM_CR = {fold(facts.register('before', VM_CR.name))}"
    off = [cpu for cpu, bit in disabled.items() if bit]
    if off and False in disabled.values():
        message = f"{value}: SVMDIS = 1 on {cpu_names(off)} only"
        return Result(FAIL, message, "cpus-disagree", because=because, by_cpu=parts)
    if off:
        lock_bits, svml_bits = (bits({cpu: bit.get(cpu) for cpu in off}) for bit in (lock, svml))
        message = f"{value}: SVMDIS = 1, LOCK = {fold(lock_bits)}; SVML = {fold(svml_bits)}"
        because += quote(svml_bits, SVML_BIT)
        return Result(FAIL, message, "firmware-disabled", because=because, by_cpu=parts)
    unread = [cpu for cpu, bit in disabled.items() if bit is None]
    logged = refusal_texts(facts, "svmdis") if len(unread) == len(disabled) else []
    if logged:
        message = f"VM_CR could not be read, and the kernel found SVM disabled: {logged[-1]}"
        return Result(FAIL, message, "firmware-disabled", because=because, by_cpu=parts)
    if unread or not disabled:
        why = why_unread(facts.register_errors("before", VM_CR.name))
        where = f" on {cpu_names(unread)}" if unread else ""
        return Result(UNKNOWN, f"VM_CR could not be read{where}{why}", by_cpu=parts)
    return Result(PASS, f"{value}: SVMDIS = 0", by_cpu=parts)


def _of_cpu(text: str, disabled: bool | None, lock: bool | None, svml: bool | None) -> CpuResult:
    if disabled is None:
        return CpuResult(UNKNOWN, f"VM_CR could not be read: {text}")
    if not disabled:
        return CpuResult(PASS, f"VM_CR = {text}: SVMDIS = 0")
    return CpuResult(FAIL, f"VM_CR = {text}: SVMDIS = 1, LOCK = {text_of_bit(lock)}; SVML = {text_of_bit(svml)}")
