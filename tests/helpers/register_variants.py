"""Evidence whose registers are changed: VM_HSAVE_PA, the bits of EFER besides SVME, VM_CR.

One part of each compound condition of the judge is true and the others are false, and near misses get no failure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.helpers.evidence_changes import (
    CLEAR,
    SET,
    UNREAD,
    at_load,
    create_answers,
    events_after_ours,
    everywhere,
    no_uevents,
    users,
)
from tests.helpers.trace_variants import LOAD as RELOADED
from tests.helpers.variants import (
    AT_LOAD,
    BASE,
    Evidence,
    Variant,
    another_vm,
    create_fails,
    each,
    register,
    set_register,
    svme_not_cleared,
    svme_not_set,
    through_kvm_pvm,
    without_uevents,
)

PAGE = "0x12345000"
_HELD = "matrix/bookworm/held-second"


def hsave(phase: str, value: Any, *cpus: str) -> Callable[[Evidence], None]:
    return register(phase, "VM_HSAVE_PA", value, *cpus)


def page_left(*cpus: str) -> Callable[[Evidence], None]:
    """svm_hardware_disable() clears SVME and leaves the page in VM_HSAVE_PA."""

    def change(evidence: Evidence) -> None:
        created = evidence["snapshots"][1]["cpus"]
        for cpu in cpus or ("0", "1"):
            set_register(evidence, "closed", "VM_HSAVE_PA", created[cpu]["VM_HSAVE_PA"], (cpu,))

    return change


def unloaded(value: Any, efer: Any = CLEAR) -> Callable[[Evidence], None]:
    """The registers of cpu1 before `trace --reload` loaded kvm_amd again."""

    def change(evidence: Evidence) -> None:
        evidence["trace"]["unloaded"]["1"].update(EFER=efer, VM_HSAVE_PA=value)

    return change


def passive(evidence: Evidence) -> None:
    evidence.update(passive=True, guest=[], snapshots=evidence["snapshots"][:1])
    evidence["ioctls"].update(KVM_GET_API_VERSION=None, KVM_CREATE_VM=None, KVM_CHECK_EXTENSION={})
    evidence["device"]["opened"] = None
    evidence["uevents"]["events"] = []


def pvm_sets_a_bit(evidence: Evidence) -> None:
    for snapshot, efer in zip(evidence["snapshots"], ("0xd01", "0x4d01", "0xd01")):
        for registers in snapshot["cpus"].values():
            registers["EFER"] = efer


_BAD, _GOOD = "register-corrupted", "svme-set-by-create-vm"

HOST_SAVE_AREA: tuple[Variant, ...] = (
    ("VM_HSAVE_PA 0 with a VM", BASE, hsave("created", "0x0"), _BAD),
    ("VM_HSAVE_PA 0 with a VM on cpu1", BASE, hsave("created", "0x0", "1"), _BAD),
    ("VM_HSAVE_PA not aligned", BASE, hsave("created", "0x12345800", "1"), _BAD),
    ("VM_HSAVE_PA off by one", BASE, hsave("created", "0x12345001", "0"), _BAD),
    ("VM_HSAVE_PA shared", BASE, hsave("created", PAGE), _BAD),
    ("VM_HSAVE_PA first page of memory but one", BASE, hsave("created", "0x1000", "1"), _GOOD),
    ("VM_HSAVE_PA unread with a VM", BASE, hsave("created", UNREAD), _GOOD),
    ("VM_HSAVE_PA unread with a VM on cpu1", BASE, hsave("created", UNREAD, "1"), _GOOD),
    (
        "VM_HSAVE_PA unread on cpu0, 0 on cpu1",
        BASE,
        each(hsave("created", UNREAD, "0"), hsave("created", "0x0", "1")),
        _BAD,
    ),
    ("VM_HSAVE_PA 0 where SVME is 0, too", BASE, each(svme_not_set, hsave("created", "0x0", "1")), "svme-not-set"),
    (
        "VM_HSAVE_PA 0, EFER unread",
        BASE,
        each(hsave("created", "0x0", "1"), register("created", "EFER", UNREAD, "1")),
        "msr-unreadable",
    ),
    ("VM_HSAVE_PA 0, KVM_CREATE_VM failed", _HELD, hsave("created", "0x0"), "svm-held-by-another-owner"),
    (
        "VM_HSAVE_PA 0, KVM_CREATE_VM unknown",
        BASE,
        each(create_answers(None), hsave("created", "0x0")),
        "vm-not-created",
    ),
    ("VM_HSAVE_PA 0 beside another VM", BASE, each(another_vm, everywhere("VM_HSAVE_PA", "0x0")), _BAD),
    ("VM_HSAVE_PA left on both CPUs", BASE, page_left(), _BAD),
    ("VM_HSAVE_PA left on cpu1", BASE, page_left("1"), _BAD),
    ("VM_HSAVE_PA left before and at the end", BASE, each(page_left(), hsave("before", PAGE, "0")), _BAD),
    ("VM_HSAVE_PA left before only", BASE, hsave("before", PAGE), _GOOD),
    ("VM_HSAVE_PA left, VM of another process", BASE, each(page_left(), users("qemu")), _GOOD),
    ("VM_HSAVE_PA left, VMs came and went", BASE, each(page_left(), events_after_ours), _GOOD),
    ("VM_HSAVE_PA left, no uevents", BASE, each(page_left(), without_uevents), _BAD),
    ("VM_HSAVE_PA left, SVME stays on cpu1", BASE, each(page_left(), svme_not_cleared), "svme-not-cleared"),
    (
        "VM_HSAVE_PA left, EFER unread at the end on cpu0",
        BASE,
        each(page_left("1"), register("closed", "EFER", UNREAD, "0")),
        _BAD,
    ),
    (
        "VM_HSAVE_PA left, EFER unread at the end",
        BASE,
        each(page_left("1"), register("closed", "EFER", UNREAD, "1")),
        _GOOD,
    ),
    ("VM_HSAVE_PA left where SVME was never set", BASE, each(svme_not_set, page_left("1")), "svme-not-set"),
    ("VM_HSAVE_PA unread at the end", BASE, hsave("closed", UNREAD, "1"), _GOOD),
    ("VM_HSAVE_PA missing at the end", BASE, hsave("closed", None), _GOOD),
    ("VM_HSAVE_PA 0 at load", AT_LOAD, everywhere("VM_HSAVE_PA", "0x0", "1"), _BAD),
    ("VM_HSAVE_PA 0 before, at load", AT_LOAD, hsave("before", "0x0", "1"), _BAD),
    ("VM_HSAVE_PA 0 at the end, at load", AT_LOAD, hsave("closed", "0x0", "1"), _BAD),
    ("VM_HSAVE_PA shared at the end, at load", AT_LOAD, hsave("closed", PAGE), _BAD),
    ("VM_HSAVE_PA stays at load", AT_LOAD, hsave("closed", PAGE, "0"), "svme-set-at-module-load"),
    ("VM_HSAVE_PA 0 at the end, another VM", BASE, each(another_vm, hsave("closed", "0x0")), "svme-set-by-another-vm"),
    ("VM_HSAVE_PA 0 before, another VM", BASE, each(another_vm, hsave("before", "0x0")), "svme-set-by-another-vm"),
    ("VM_HSAVE_PA 0 at load, passive", AT_LOAD, each(passive, everywhere("VM_HSAVE_PA", "0x0")), _BAD),
    ("at load, passive", AT_LOAD, passive, "vm-not-created"),
    (
        "VM_HSAVE_PA 0 at load N, passive",
        AT_LOAD,
        each(passive, at_load("N"), no_uevents, everywhere("VM_HSAVE_PA", "0x0")),
        "vm-not-created",
    ),
    (
        "VM_HSAVE_PA and SVME 0 before, at load",
        AT_LOAD,
        each(passive, register("before", "EFER", CLEAR), everywhere("VM_HSAVE_PA", PAGE)),
        "vm-not-created",
    ),
    ("VM_HSAVE_PA left, kvm_amd unloaded", RELOADED, unloaded(PAGE), _BAD),
    ("VM_HSAVE_PA unread, kvm_amd unloaded", RELOADED, unloaded(UNREAD), "svme-set-by-create-vm"),
    ("VM_HSAVE_PA left, SVME 1, kvm_amd unloaded", RELOADED, unloaded(PAGE, SET), "observers-disagree"),
    ("VM_HSAVE_PA left, EFER unread, kvm_amd unloaded", RELOADED, unloaded(PAGE, UNREAD), "observers-disagree"),
)

_OTHER_BIT, _OTHER_BIT_SET = "0x4d01", "0x5d01"


def other_bit(evidence: Evidence) -> None:
    """EFER.FFXSR is set throughout, as on a CPU that has it."""
    for phase, value in (("before", _OTHER_BIT), ("created", _OTHER_BIT_SET), ("closed", _OTHER_BIT)):
        set_register(evidence, phase, "EFER", value)


CHANGED_BITS: tuple[Variant, ...] = (
    ("EFER.FFXSR throughout", BASE, other_bit, _GOOD),
    ("EFER.FFXSR throughout at load", AT_LOAD, everywhere("EFER", _OTHER_BIT_SET), "svme-set-at-module-load"),
    ("EFER.FFXSR set and left", BASE, each(other_bit, register("before", "EFER", CLEAR)), _BAD),
    ("EFER.FFXSR set with the VM", BASE, register("created", "EFER", _OTHER_BIT_SET, "1"), _BAD),
    ("EFER.FFXSR set at closing", BASE, register("closed", "EFER", _OTHER_BIT, "0"), _BAD),
    ("EFER.FFXSR cleared at closing", BASE, each(other_bit, register("closed", "EFER", CLEAR)), _BAD),
    ("EFER.NXE cleared with the VM", BASE, register("created", "EFER", "0x1501", "1"), _BAD),
    ("EFER.LMSLE set with the VM", BASE, register("created", "EFER", "0x3d01"), _BAD),
    (
        "EFER.FFXSR set at closing, EFER unread before",
        BASE,
        each(register("before", "EFER", UNREAD), register("closed", "EFER", _OTHER_BIT)),
        _BAD,
    ),
    (
        "EFER.FFXSR set at closing, EFER unread with the VM",
        BASE,
        each(register("created", "EFER", UNREAD), register("closed", "EFER", _OTHER_BIT)),
        _BAD,
    ),
    (
        "EFER.FFXSR set, KVM_CREATE_VM failed",
        BASE,
        each(create_fails("EBUSY"), register("closed", "EFER", _OTHER_BIT)),
        "create-vm-failed",
    ),
    ("EFER.FFXSR set by loading kvm_amd", RELOADED, unloaded("0x0", _OTHER_BIT), _BAD),
    ("VM_CR 0x8 throughout", BASE, everywhere("VM_CR", "0x8"), _GOOD),
    ("VM_CR changed with the VM", BASE, register("created", "VM_CR", "0x8", "1"), _BAD),
    ("VM_CR changed at closing", BASE, register("closed", "VM_CR", "0x10"), _BAD),
    (
        "VM_CR unread before",
        BASE,
        each(
            register("before", "VM_CR", UNREAD), register("created", "VM_CR", "0x8"), register("closed", "VM_CR", "0x8")
        ),
        _GOOD,
    ),
    (
        "VM_CR and VM_HSAVE_PA wrong on cpu1",
        BASE,
        each(register("created", "VM_CR", "0x8", "1"), hsave("created", "0x0", "1")),
        _BAD,
    ),
    ("EFER.FFXSR set beside kvm_pvm", "hosts/kvm-pvm-without-svm", pvm_sets_a_bit, "kvm-without-svm"),
    (
        "kvm_pvm in place of kvm_amd sets EFER.FFXSR",
        BASE,
        each(through_kvm_pvm, everywhere("EFER", "0xd01"), register("created", "EFER", "0x4d01")),
        "kvm-without-svm",
    ),
    ("page after no VM", BASE, each(create_answers(None), hsave("closed", "0x7000")), "vm-not-created"),
    (
        "VM_CR and VM_HSAVE_PA unread with the VM",
        BASE,
        each(register("created", "VM_CR", {"error": "EIO"}), hsave("created", {"error": "EPERM"})),
        _GOOD,
    ),
)

REGISTERS = (*HOST_SAVE_AREA, *CHANGED_BITS)
