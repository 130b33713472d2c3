"""Evidence of a passive probe, made from that of a probe that created a VM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.helpers.evidence_changes import CLEAR, SET, at_load, foreign_event, kvm_amd, no_uevents, registered, users
from tests.helpers.variants import (
    AT_LOAD,
    BASE,
    Evidence,
    Variant,
    each,
    lacks_svm,
    register,
    through_kvm_pvm,
    without_sysfs,
)


def passive(evidence: Evidence) -> Any:
    """What a passive probe would have read on that host. Changes the evidence, and returns it."""
    evidence["passive"] = True
    evidence["device"]["opened"] = None
    evidence["ioctls"] = {"KVM_GET_API_VERSION": None, "KVM_CREATE_VM": None, "KVM_CHECK_EXTENSION": {}}
    evidence["guest"] = []
    evidence["snapshots"] = evidence["snapshots"][:1]
    evidence["uevents"]["events"] = [event for event in evidence["uevents"]["events"] if not event["ours"]]
    return evidence


def passively(*changes: Callable[[Evidence], Any]) -> Callable[[Evidence], None]:
    """A passive probe of a host with these changes."""
    return each(passive, *changes)


def kvm_has_one_more_user(evidence: Evidence) -> None:
    """A module uses kvm_enable_virtualization()."""
    kvm = evidence["modules"]["kvm"]
    kvm["refcount"] = len(kvm["holders"]) + 1


_SET = register("before", "EFER", SET)

PASSIVE: tuple[Variant, ...] = (
    ("passive", BASE, passively(), "vm-not-created"),
    ("passive at load", AT_LOAD, passively(), "vm-not-created"),
    ("passive at load, SVME 0 on cpu1", AT_LOAD, passively(register("before", "EFER", CLEAR, "1")), "vm-not-created"),
    ("passive, SVME set", BASE, passively(_SET), "svm-held-by-another-owner"),
    ("passive, SVME set on cpu1", BASE, passively(register("before", "EFER", SET, "1")), "svm-held-by-another-owner"),
    ("passive, SVME set, no user found", BASE, passively(_SET, users()), "svm-held-by-another-owner"),
    ("passive, SVME set, another VM", BASE, passively(_SET, users("qemu")), "vm-not-created"),
    ("passive, SVME set, no uevents", BASE, passively(_SET, no_uevents), "vm-not-created"),
    ("passive, SVME set, VMs come and go", BASE, passively(_SET, foreign_event), "vm-not-created"),
    ("passive, SVME set, kvm_amd in use", BASE, passively(_SET, kvm_amd(refcount=1)), "vm-not-created"),
    ("passive, SVME set, kvm_amd built in", BASE, passively(_SET, kvm_amd(refcount=None)), "vm-not-created"),
    ("passive, SVME set, no /sys/module", BASE, passively(_SET, without_sysfs), "vm-not-created"),
    ("passive, SVME set, kvm in use", BASE, passively(_SET, kvm_has_one_more_user), "vm-not-created"),
    ("passive, at load N", AT_LOAD, passively(at_load("N"), kvm_amd(refcount=0)), "svm-held-by-another-owner"),
    ("passive, at load Y", AT_LOAD, passively(kvm_amd(refcount=0)), "vm-not-created"),
    ("passive, EFER unread", BASE, passively(register("before", "EFER", {"error": "EPERM"}, "1")), "msr-unreadable"),
    ("passive, VM_CR unread", BASE, passively(register("before", "VM_CR", {"error": "EPERM"}, "1")), "msr-unreadable"),
    ("passive, kvm_pvm", BASE, each(through_kvm_pvm, passive), "kvm-without-svm"),
    ("passive, kvm_pvm not registered", BASE, each(through_kvm_pvm, passive, registered(False)), "cpu-lacks-svm"),
    ("passive, kvm_pvm perhaps registered", BASE, each(through_kvm_pvm, passive, registered(None)), "cpu-lacks-svm"),
    ("passive, no SVM bit", BASE, each(lacks_svm, passive), "cpu-lacks-svm"),
)
