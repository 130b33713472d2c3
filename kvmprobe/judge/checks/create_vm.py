"""Does KVM_CREATE_VM succeed?"""

from __future__ import annotations

from kvmprobe.judge.check_result import FAIL, PASS, UNKNOWN, Result, quote, why_unread
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.other_owner import svm_is_held
from kvmprobe.judge.svme_unowned import left_by_failed_create
from kvmprobe.model.cpu_lists import cpu_names, fold
from kvmprobe.model.values import HELD_ERRORS, error_of

_PASSIVE = "--passive: no VM created"


def create_vm(facts: Facts) -> Result:
    """kvm_dev_ioctl_create_vm() and kvm_create_vm() in virt/kvm/kvm_main.c.

    Reads the answer of KVM_CREATE_VM, and EFER before and after it; of a passive probe also kvm_amd's reference count
    and uevents.
    Reasons: create-vm-failed; kvm-not-permitted where it is refused to this process, or exceeds its limits;
    svm-held-by-another-owner; vm-not-created where it was not called; msr-unreadable of a passive probe.
    """
    if facts.vm_created:
        return Result(PASS, "KVM_CREATE_VM succeeded")
    error = error_of(facts.create_vm)
    if error is None:
        return _without_an_answer(facts)
    message, answer = f"KVM_CREATE_VM failed: {error}", f"KVM_CREATE_VM: {error}"
    left = left_by_failed_create(facts)
    if left:
        stays = f"EFER.SVME is 1 on {cpu_names(left)} since then, where it was 0"
        message, answer = f"{message}; {stays}", f"{answer}; {stays}"
    set_before = facts.svme_set_before()
    if set_before and error in HELD_ERRORS and not facts.kvm_holds_svm():
        message += f"; EFER.SVME was 1 on {cpu_names(set_before)} before it, and KVM had not set it"
        return svm_is_held(facts, message, answer)
    if facts.is_own_create_error():
        return Result(UNKNOWN, message, "kvm-not-permitted", because=[answer])
    if error == "ENOMEM":
        message += f"; {facts.evidence['available_kb'] // 1024} MiB of memory were available"
    because = [answer, *quote(facts.register_texts("before", "EFER"), "EFER")]
    return Result(FAIL, message, "create-vm-failed", because=because)


def _without_an_answer(facts: Facts) -> Result:
    if facts.watch:
        from kvmprobe.judge.checks.watched_command import created_no_vm

        return created_no_vm(facts.watch)
    if facts.passive:
        return _passive(facts)
    answer = "was not called" if facts.create_vm is None else f"= {facts.create_vm}, neither 0 nor an error"
    return Result(UNKNOWN, f"KVM_CREATE_VM {answer}", "vm-not-created", because=[f"KVM_CREATE_VM {answer}"])


def _passive(facts: Facts) -> Result:
    """A failure where KVM_CREATE_VM must fail, else unknown: only a VM shows the rest."""
    set_before = facts.svme_set_before()
    # A VM that came and went unnoticed, or one that this process cannot see, may be why SVME is set.
    seen = facts.evidence["uevents"]["source"] and not facts.foreign_events()
    # A module that uses kvm_enable_virtualization() counts in kvm's references, and KVM_CREATE_VM succeeds beside it.
    unused = "kvm_amd" in facts.modules and facts.modules["kvm_amd"]["refcount"] == 0 and facts.users_of_kvm() <= 0
    if set_before and seen and unused and not facts.enabled_at_load() and facts.other_vms() is None:
        message = f"no VM is alive, and EFER.SVME is 1 on {cpu_names(set_before)}: KVM_CREATE_VM would fail"
        return svm_is_held(facts, message, "kvm_amd: reference count 0")
    for name in ("EFER", "VM_CR"):
        values = facts.register("before", name)
        if None in values.values() or not values:
            unread = why_unread(facts.register_errors("before", name))
            because = quote(facts.register_texts("before", name), name) or [f"{name}: read on no CPU"]
            return Result(UNKNOWN, f"{_PASSIVE}; {name} could not be read{unread}", "msr-unreadable", because=because)
    clear = [cpu for cpu, value in facts.svme("before").items() if value is False]
    if facts.enabled_at_load() and clear:
        found = f"kvm.enable_virt_at_load=Y, but EFER.SVME is 0 on {cpu_names(clear)}"
    else:
        found = "no obstacle found"
    efer = facts.register("before", "EFER")
    message = f"{_PASSIVE}; {found} (EFER {fold(efer)})"
    return Result(UNKNOWN, message, "vm-not-created", _PASSIVE_HINT, [_PASSIVE, *quote(efer, "EFER")])


_PASSIVE_HINT = "Run `kvmprobe` without --passive: only a VM shows whether the kernel can use SVM."
