"""Evidence of EFER.SVME that belongs to no VM, changed: left set by KVM, or cleared under another owner.

Each part of each compound condition is here once the only one that is not so.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.helpers.evidence_changes import (
    CLEAR,
    SET,
    UNREAD,
    at_load,
    count_other_vm,
    create_answers,
    events_after_ours,
    everywhere,
    foreign_event,
    kvm_amd,
    module,
    no_uevents,
    snapshot_missing,
    users,
    without_counts,
    without_module,
)
from tests.helpers.register_variants import hsave
from tests.helpers.variants import AT_LOAD, BASE, Evidence, Variant, create_fails, each, register, set_register

_HELD = "matrix/bookworm/held-second"  # EBUSY: SVME is 1 on cpu1 throughout, and 0 on cpu0
_AT_LOAD_N = "matrix/trixie/held-second-no-virt-at-load"  # the same with EIO


def stays(*cpus: str) -> Callable[[Evidence], None]:
    """SVME is 1 at the end where KVM_CREATE_VM failed."""
    return register("closed", "EFER", SET, *cpus)


def pages_of_kvm(evidence: Evidence) -> None:
    """VM_HSAVE_PA is in each snapshot what KVM wrote."""
    for cpu, registers in evidence["snapshots"][1]["cpus"].items():
        for phase in ("before", "closed"):
            set_register(evidence, phase, "VM_HSAVE_PA", registers["VM_HSAVE_PA"], (cpu,))


left_by_kvm = each(everywhere("EFER", SET), pages_of_kvm)

overran = register("before", "EFER", SET, "1")
overran_every = register("before", "EFER", SET)

_LEFT, _OVERRAN, _UNKNOWN = "svme-not-cleared", "svm-held-by-another-owner", "svme-owner-unknown"

FAILED_CREATE: tuple[Variant, ...] = (
    ("EBUSY, SVME stays on cpu0", _HELD, stays("0"), _OVERRAN),
    ("EIO, SVME stays on cpu0", _AT_LOAD_N, stays("0"), _OVERRAN),
    ("EBUSY, SVME stays on cpu0, no uevents", _HELD, each(stays("0"), no_uevents), _OVERRAN),
    ("EBUSY, SVME stays on cpu0, VM of another process", _HELD, each(stays("0"), users("qemu")), _OVERRAN),
    ("EBUSY, SVME stays on cpu0, another VM came", _HELD, each(stays("0"), foreign_event), _OVERRAN),
    ("EBUSY, SVME stays on cpu0, vboxdrv", _HELD, each(stays("0"), module("vboxdrv")), _OVERRAN),
    ("EBUSY, SVME stays on cpu0, vmmon", _HELD, each(stays("0"), module("vmmon")), _OVERRAN),
    (
        "EBUSY, SVME stays on cpu0, EFER unread before",
        _HELD,
        each(stays("0"), register("before", "EFER", UNREAD, "0")),
        _OVERRAN,
    ),
    ("EINVAL, SVME stays", BASE, each(create_fails("EINVAL"), stays()), "create-vm-failed"),
    ("ENOMEM, SVME stays on cpu1", BASE, each(create_fails("ENOMEM"), stays("1")), _LEFT),
    ("KVM_CREATE_VM unknown, SVME stays", BASE, each(create_answers(None), stays()), "vm-not-created"),
)

LEFT_SET: tuple[Variant, ...] = (
    ("SVME left set by KVM", BASE, left_by_kvm, _LEFT),
    ("SVME left set by KVM, at load N", AT_LOAD, at_load("N"), _LEFT),
    ("SVME set by nobody, at load Y", AT_LOAD, at_load("Y"), "svme-set-at-module-load"),
    ("SVME left set, another page on cpu1 before", BASE, each(left_by_kvm, hsave("before", "0x7000", "1")), _UNKNOWN),
    (
        "SVME left set, page 0 before",
        BASE,
        each(everywhere("EFER", SET), hsave("before", "0x0"), hsave("closed", "0x7000")),
        _UNKNOWN,
    ),
    (
        "SVME left set, VM_HSAVE_PA 0 throughout",
        BASE,
        each(everywhere("EFER", SET), everywhere("VM_HSAVE_PA", "0x0")),
        "register-corrupted",
    ),
    ("SVME left set, page unread before", BASE, each(left_by_kvm, hsave("before", UNREAD, "1")), _UNKNOWN),
    ("SVME left set, page unread after", BASE, each(left_by_kvm, hsave("created", UNREAD, "1")), _UNKNOWN),
    (
        "SVME left set, cleared at the end on cpu0",
        BASE,
        each(left_by_kvm, register("closed", "EFER", CLEAR, "0"), hsave("closed", "0x0", "0")),
        _UNKNOWN,
    ),
    (
        "SVME left set, EFER unread at the end",
        BASE,
        each(left_by_kvm, register("closed", "EFER", UNREAD, "0")),
        _UNKNOWN,
    ),
    ("SVME left set, nothing read at the end", BASE, each(left_by_kvm, snapshot_missing("closed")), _UNKNOWN),
    ("SVME left set, kvm_amd in use", BASE, each(left_by_kvm, kvm_amd(refcount=1)), "svme-set-by-another-vm"),
    ("SVME left set, references unknown", BASE, each(left_by_kvm, kvm_amd(refcount=None)), _UNKNOWN),
    ("SVME left set, kvm_amd not in /sys/module", BASE, each(left_by_kvm, without_module("kvm_amd")), _UNKNOWN),
    ("SVME left set, kvm in use", BASE, each(left_by_kvm, lambda e: e["modules"]["kvm"].update(refcount=2)), _UNKNOWN),
    ("SVME left set, another VM", BASE, each(left_by_kvm, count_other_vm), "svme-set-by-another-vm"),
    ("SVME left set, VMs came and went", BASE, each(left_by_kvm, events_after_ours), _UNKNOWN),
    ("SVME left set, VM of another process", BASE, each(left_by_kvm, users("qemu")), "svme-set-by-another-vm"),
    ("SVME left set, no uevents", BASE, each(left_by_kvm, no_uevents), _UNKNOWN),
    ("SVME left set, uevents without COUNT", BASE, each(left_by_kvm, without_counts), _UNKNOWN),
)

OVERRUN: tuple[Variant, ...] = (
    ("KVM overran cpu1", BASE, overran, _OVERRAN),
    ("KVM overran every CPU", BASE, overran_every, _OVERRAN),
    (
        "KVM overran every CPU, pages before",
        BASE,
        each(overran_every, hsave("before", "0x7000", "0"), hsave("before", "0x8000", "1")),
        _OVERRAN,
    ),
    ("SVME cleared, KVM's pages before", BASE, each(overran_every, pages_of_kvm, hsave("closed", "0x0")), _UNKNOWN),
    ("SVME cleared on every CPU, page unread", BASE, each(overran_every, hsave("before", UNREAD, "0")), _UNKNOWN),
    (
        "SVME cleared on every CPU, page unread after",
        BASE,
        each(overran_every, hsave("created", UNREAD, "0")),
        _UNKNOWN,
    ),
    (
        "SVME before on cpu1 at load, cleared at the end",
        AT_LOAD,
        each(
            register("before", "EFER", CLEAR, "0"), register("closed", "EFER", CLEAR, "1"), hsave("closed", "0x0", "1")
        ),
        _UNKNOWN,
    ),
    ("KVM overran cpu1, page unread", BASE, each(overran, hsave("before", UNREAD, "1")), _OVERRAN),
    ("SVME before on cpu1 and at the end", BASE, each(overran, stays("1")), _UNKNOWN),
    ("SVME before on cpu1, unread at the end", BASE, each(overran, register("closed", "EFER", UNREAD, "1")), _UNKNOWN),
    ("SVME before on cpu1, no uevents", BASE, each(overran, no_uevents), _UNKNOWN),
    (
        "SVME before on cpu1, kvm in use",
        BASE,
        each(overran, lambda e: e["modules"]["kvm"].update(refcount=2)),
        _UNKNOWN,
    ),
    ("SVME before on cpu1, VMs came and went", BASE, each(overran, events_after_ours), _UNKNOWN),
    ("SVME before on cpu1 beside a VM that was there", BASE, each(overran, count_other_vm), "interfered"),
    ("SVME before on cpu1 at load", AT_LOAD, register("before", "EFER", CLEAR, "0"), _UNKNOWN),
)

UNOWNED = (*FAILED_CREATE, *LEFT_SET, *OVERRUN)
