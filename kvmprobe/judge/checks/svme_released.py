"""Does KVM clear EFER.SVME when the last VM is gone?"""

from __future__ import annotations

from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, WARN, CpuResult, Result, by_cpu, quote, why_unread
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.other_vms import others_after
from kvmprobe.judge.svme_unowned import left_by_failed_create
from kvmprobe.model.cpu_lists import cpu_names, fold


def is_left_set(facts: Facts) -> bool:
    """Whether a KVM_CREATE_VM that failed left SVME set."""
    return bool(left_by_failed_create(facts))


def stays_set(facts: Facts) -> bool:
    """Whether SVME stays set after the last VM, and no other VM explains it."""
    return facts.has_snapshot("closed") and svme_released(facts).reason == "svme-not-cleared"


def svme_released(facts: Facts) -> Result:
    """svm_hardware_disable(), since 6.12 svm_disable_virtualization_cpu(), in arch/x86/kvm/svm/svm.c.

    Reads EFER before KVM_CREATE_VM and after the VM was closed, kvm.enable_virt_at_load, and what shows other VMs.
    Reasons: svme-not-cleared; svme-not-set where enable_virt_at_load=Y and SVME is 0; svme-owner-unknown where KVM's
    uevents are missing, which would show another VM.
    """
    before, closed = facts.svme("before"), facts.svme("closed")
    if facts.kvm_without_svm() and not any(closed.values()):
        return Result(SKIP, f"{facts.backend_text()} does not use EFER.SVME")
    if facts.watch and not facts.has_snapshot("closed"):
        return Result(SKIP, "a watched VM is still alive")
    result = _judge(facts)
    texts = facts.register_texts("closed", "EFER")
    result.by_cpu = by_cpu(texts, lambda cpu, text: _of_cpu(facts, result, before.get(cpu), closed[cpu], text))
    result.because = [*quote(facts.efer_steps(), "EFER", " "), *result.because]
    return result


def _judge(facts: Facts) -> Result:
    left = left_by_failed_create(facts)
    if left:
        message = f"KVM_CREATE_VM failed, and SVME is 1 on {cpu_names(left)} since then, where it was 0"
        return Result(FAIL, message, "svme-not-cleared", because=["other VMs: none found"])
    before, closed = facts.svme("before"), facts.svme("closed")
    text = f"EFER = {fold(facts.register('closed', 'EFER'))}"
    unread = [cpu for cpu, value in closed.items() if value is None]
    unknown = f"{text}{why_unread(facts.register_errors('closed', 'EFER'))}; whether SVME was released is unknown"
    if None in before.values():
        return Result(UNKNOWN, unknown)
    still = [cpu for cpu, value in closed.items() if value]
    lost = [cpu for cpu, value in closed.items() if value is False]
    if facts.enabled_at_load() and lost:
        message = f"{text}: SVME is 0 on {cpu_names(lost)} although kvm.enable_virt_at_load=Y"
        return Result(FAIL, message, "svme-not-set", because=["kvm.enable_virt_at_load=Y"])
    if unread and (facts.enabled_at_load() or not still or all(before.values())):
        return Result(UNKNOWN, unknown)
    if facts.enabled_at_load():
        return Result(PASS, f"{text}: SVME stays 1, as it should with kvm.enable_virt_at_load=Y")
    if not still:
        return Result(PASS, f"{text}: SVME is 0 again")
    if all(before.values()):
        return Result(PASS, f"{text}: SVME stays as it was before the probe")
    return _stays(facts, text, still, bool(lost))


def _stays(facts: Facts, text: str, still: list[int], released_elsewhere: bool) -> Result:
    """SVME was 0 on some CPU before the VM and is 1 on `still` after it: for another VM, or by a defect."""
    others = others_after(facts)
    if others:
        return Result(WARN, f"{text}: SVME stays 1 for other VMs ({others})")
    if facts.svme_set_before():
        return Result(UNKNOWN, f"{text}: SVME was 1 on {cpu_names(facts.svme_set_before())} before the probe already")
    if not released_elsewhere and facts.evidence["uevents"]["source"] is None:
        message = f"{text}: SVME stays 1, and without KVM's uevents it is unknown whether for another VM"
        return Result(UNKNOWN, message, "svme-owner-unknown", because=["KVM's uevents: none"])
    message = f"{text}: SVME is 1 on {cpu_names(still)} after the last VM"
    return Result(FAIL, message, "svme-not-cleared", because=["other VMs: none found"])


def _of_cpu(facts: Facts, whole: Result, before: bool | None, closed: bool | None, text: str) -> CpuResult:
    message = f"EFER = {text} after the VM was closed"
    if closed is None or before is None:
        return CpuResult(UNKNOWN, message)
    good = closed if facts.enabled_at_load() else not closed or before
    return CpuResult(PASS if good else whole.status, message)
