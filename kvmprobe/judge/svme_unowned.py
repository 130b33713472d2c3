"""EFER.SVME that belongs to no VM: KVM left it set, or KVM cleared it although it was another owner's."""

from __future__ import annotations

from kvmprobe.judge.facts import Facts
from kvmprobe.judge.other_vms import others_after
from kvmprobe.model.values import OTHER_OWNERS, error_of, is_failure


def left_by_failed_create(facts: Facts) -> list[int]:
    """The CPUs where SVME was 0 before a KVM_CREATE_VM that failed, and 1 at the end.

    hardware_enable_all() has to undo what it did (virt/kvm/kvm_main.c). None where something else may have set it.
    """
    if error_of(facts.create_vm) is None or not facts.evidence["uevents"]["source"] or others_after(facts):
        return []
    if any(name in facts.modules for name in OTHER_OWNERS):
        return []
    before = facts.svme("before")
    return [cpu for cpu, value in facts.svme("closed").items() if value and before.get(cpu) is False]


def is_left_by_kvm(facts: Facts) -> bool:
    """SVME was 1 on every CPU before our VM, while it lived and after it, with KVM's own pages, and without any VM."""
    before = facts.svme("before")
    always = all(before.values()) and all(facts.svme("closed").values()) and facts.has_snapshot("closed")
    return always and facts.works() and _nobody_used_kvm(facts) and _has_kvms_pages(facts) is True


def overrun_cpus(facts: Facts) -> list[int]:
    """The CPUs where SVME was another owner's and KVM cleared it: KVM_CREATE_VM succeeded where it has to fail.

    svm_hardware_enable() answers EBUSY where it finds SVME set (arch/x86/kvm/svm/svm.c).
    """
    owned, closed = facts.svme_set_before(), facts.svme("closed")
    if not facts.works() or any(closed.get(cpu) is not False for cpu in owned) or not _nobody_used_kvm(facts):
        return []
    every = len(owned) == len(facts.svme("before"))
    return [] if every and _has_kvms_pages(facts) is not False else owned


def _nobody_used_kvm(facts: Facts) -> bool:
    """No VM was alive and no module used SVM through KVM, by each of the counts that show it."""
    kvm, kvm_amd = facts.modules.get("kvm"), facts.modules.get("kvm_amd")
    if kvm is None or kvm["refcount"] is None or facts.users_of_kvm() > 0:
        return False
    if kvm_amd is None or kvm_amd["refcount"] != 0:
        return False
    if facts.enables_at_load() or is_failure(kvm["parameters"].get("enable_virt_at_load")):
        return False
    seen = facts.evidence["uevents"]["source"] and facts.vms_alive_at_create() == 0
    return bool(seen) and not others_after(facts)


def _has_kvms_pages(facts: Facts) -> bool | None:
    """Whether VM_HSAVE_PA was KVM's own before KVM_CREATE_VM, on every CPU: KVM writes the same pages again.

    None where it is unknown on some CPU.
    """
    before, created = (facts.register(phase, "VM_HSAVE_PA") for phase in ("before", "created"))
    if None in before.values() or None in created.values():
        return None
    return all(page and page == created.get(cpu) for cpu, page in before.items())
