"""Evidence of registers, VMs and guests, changed: who set EFER.SVME, who released it, and what ran.

One part of each compound condition of the judge is true and the others are false; CPUs differ in what is usually equal;
each entry of each list of names occurs; and so does everything that excuses a failure.
"""

from __future__ import annotations

from tests.helpers.evidence_changes import (
    CLEAR,
    SET,
    UNREAD,
    at_load,
    count_other_vm,
    cpu1_went,
    create_answers,
    events_after_ours,
    everywhere,
    foreign_event,
    guest_missing,
    guests_skipped,
    in_a_container,
    kvm_amd,
    module,
    second_snapshot,
    snapshot_missing,
    users,
    without_counts,
    without_module,
)
from tests.helpers.variants import (
    AT_LOAD,
    BASE,
    Evidence,
    Variant,
    affinity_refused,
    another_vm,
    api_version,
    create_fails,
    each,
    guest_result,
    held_at_create,
    no_vm,
    register,
    svme_not_cleared,
    svme_not_set,
    unreadable,
    without_uevents,
)

_CPU1_WAS_SET = register("before", "EFER", SET, "1")
_STAYS = register("closed", "EFER", SET)
_ALL_SET = everywhere("EFER", SET)


def created_before_ours(evidence: Evidence) -> None:
    """Between the snapshots before and after our KVM_CREATE_VM another process creates its VM, which is the first."""
    events = evidence["uevents"]["events"]
    for event in events:
        event["count"] += 1
        event["created"] += 1
    events.insert(0, {**events[0], "pid": 4711, "comm": "qemu", "ours": False, "count": 1})


def unnamed_user(evidence: Evidence) -> None:
    evidence["vm_users"] = [{"pid": 7, "comm": None, "vms": 1}]


WHO_SET_SVME: tuple[Variant, ...] = (
    ("SVME before on cpu0, another VM", BASE, each(register("before", "EFER", SET, "0"), count_other_vm), "interfered"),
    ("SVME before on cpu1, another VM", BASE, each(_CPU1_WAS_SET, users("qemu")), "interfered"),
    ("SVME before on cpu1, kvm_amd in use", BASE, each(_CPU1_WAS_SET, kvm_amd(refcount=1)), "interfered"),
    ("SVME before on cpu0, nobody", BASE, register("before", "EFER", SET, "0"), "svm-held-by-another-owner"),
    ("SVME before on cpu0 at load", AT_LOAD, register("before", "EFER", CLEAR, "1"), "svme-owner-unknown"),
    (
        "another bit before on cpu1 at load",
        AT_LOAD,
        register("before", "EFER", "0x5d01", "1"),
        "register-corrupted",
    ),
    ("SVME 0 before at load", AT_LOAD, register("before", "EFER", CLEAR), "svme-set-by-create-vm"),
    ("enable_virt_at_load=N", AT_LOAD, at_load("N"), "svme-not-cleared"),
    ("enable_virt_at_load=0", AT_LOAD, at_load("0"), "svme-not-cleared"),
    ("enable_virt_at_load=1", AT_LOAD, at_load("1"), "svme-set-at-module-load"),
    ("enable_virt_at_load unread", AT_LOAD, at_load({"error": "EACCES"}), "svme-owner-unknown"),
    ("at load, kvm_amd not in /sys/module", AT_LOAD, without_module("kvm_amd"), "svme-owner-unknown"),
    ("at load, kvm not in /sys/module", AT_LOAD, without_module("kvm"), "svme-owner-unknown"),
    ("at load, no guest", AT_LOAD, guest_missing, "guest-not-run"),
    ("at load, guests skipped", AT_LOAD, guests_skipped, "guest-not-run"),
    ("another VM, no guest on cpu1", BASE, each(another_vm, affinity_refused), "guest-not-run"),
    ("another VM, guest failed", BASE, each(another_vm, guest_result("failed", "EIO")), "guest-failed"),
    ("another VM created just before ours", BASE, created_before_ours, "interfered"),
    ("two VMs created, container", BASE, each(in_a_container, created_before_ours), "interfered"),
    ("two VMs created, uevents without COUNT", BASE, each(created_before_ours, without_counts), "interfered"),
    ("another VM of an unnamed process", BASE, each(_ALL_SET, unnamed_user), "svme-set-by-another-vm"),
    *(
        (f"EFER {error} after on cpu1", BASE, register("created", "EFER", {"error": error}, "1"), "msr-unreadable")
        for error in ("EACCES", "ENXIO")
    ),
    ("another VM, no guest", BASE, each(another_vm, guest_missing), "guest-not-run"),
    ("SVME changed, no guest", BASE, guest_missing, "svme-set-by-create-vm"),
    ("kvm_amd has one user", BASE, each(everywhere("EFER", SET), kvm_amd(refcount=1)), "svme-set-by-another-vm"),
    ("kvm_amd built in, SVME set", BASE, each(everywhere("EFER", SET), kvm_amd(refcount=None)), "svme-owner-unknown"),
    ("two other VMs", BASE, each(another_vm, count_other_vm), "svme-set-by-another-vm"),
    ("another VM, container", BASE, each(another_vm, in_a_container), "svme-set-by-another-vm"),
    ("another VM came first, container", BASE, each(in_a_container, count_other_vm), "interfered"),
    ("uevents without COUNT", BASE, without_counts, "svme-set-by-create-vm"),
    ("another VM, uevents without COUNT", BASE, each(another_vm, without_counts), "svme-owner-unknown"),
    ("EFER unread before on cpu1", BASE, register("before", "EFER", UNREAD, "1"), "msr-unreadable"),
    ("EFER unread before", BASE, register("before", "EFER", None), "msr-unreadable"),
    ("EFER unread after on cpu0", BASE, register("created", "EFER", UNREAD, "0"), "msr-unreadable"),
    (
        "EFER unread after, SVME 0 on cpu1",
        BASE,
        each(register("created", "EFER", UNREAD, "0"), svme_not_set),
        "svme-not-set",
    ),
    ("no snapshot after KVM_CREATE_VM", BASE, snapshot_missing("created"), "msr-unreadable"),
    ("no snapshot before", BASE, snapshot_missing("before"), "msr-unreadable"),
    ("no snapshot at the end", BASE, snapshot_missing("closed"), "svme-set-by-create-vm"),
    ("SVME 0 in one of two snapshots", BASE, second_snapshot("created", CLEAR), "msr-unreadable"),
    ("two snapshots, cpu1 in one of them", BASE, second_snapshot("created", None), "svme-set-by-create-vm"),
    ("CPUs at the end unknown", BASE, lambda e: e["cpus"].update(online_at_end=None), "svme-set-by-create-vm"),
    ("two equal snapshots", BASE, second_snapshot("created", SET), "svme-set-by-create-vm"),
    ("EFER with another bit", BASE, register("created", "EFER", "0x5d01", "1"), "register-corrupted"),
    ("SVME 0 on every CPU", BASE, register("created", "EFER", CLEAR), "svme-not-set"),
    ("SVME 0 on every CPU at load", AT_LOAD, everywhere("EFER", CLEAR), "svme-not-set"),
)

RELEASED: tuple[Variant, ...] = (
    ("SVME stays, container", BASE, each(svme_not_cleared, in_a_container), "svme-not-cleared"),
    ("SVME stays everywhere, container", BASE, each(_STAYS, in_a_container), "svme-not-cleared"),
    ("SVME stays everywhere", BASE, _STAYS, "svme-not-cleared"),
    ("SVME stays, no uevents", BASE, each(svme_not_cleared, without_uevents), "svme-not-cleared"),
    ("SVME stays, VMs came and went", BASE, each(svme_not_cleared, events_after_ours), "svme-set-by-create-vm"),
    (
        "SVME stays, container, another VM came before ours",
        BASE,
        each(svme_not_cleared, in_a_container, foreign_event),
        "svme-set-by-create-vm",
    ),
    ("SVME stays, VM of another process", BASE, each(svme_not_cleared, users("qemu")), "svme-set-by-create-vm"),
    ("SVME stays, nobody found", BASE, each(svme_not_cleared, users()), "svme-not-cleared"),
    ("SVME stays, SVME before on cpu0", BASE, each(register("before", "EFER", SET, "0"), _STAYS), "svme-owner-unknown"),
    (
        "SVME goes beside another VM",
        BASE,
        each(another_vm, register("closed", "EFER", CLEAR, "1")),
        "svme-set-by-another-vm",
    ),
    ("EFER unread at the end", BASE, register("closed", "EFER", UNREAD, "1"), "svme-set-by-create-vm"),
    (
        "SVME stays, unread on cpu0",
        BASE,
        each(svme_not_cleared, register("closed", "EFER", UNREAD, "0")),
        "svme-not-cleared",
    ),
    (
        "SVME stays, unread on cpu0, no uevents",
        BASE,
        each(svme_not_cleared, register("closed", "EFER", UNREAD, "0"), without_uevents),
        "svme-owner-unknown",
    ),
    (
        "EFER unread at the end beside another VM",
        BASE,
        each(another_vm, register("closed", "EFER", UNREAD, "0")),
        "svme-set-by-another-vm",
    ),
    ("EFER unread at the end at load", AT_LOAD, register("closed", "EFER", UNREAD, "0"), "svme-set-at-module-load"),
    (
        "SVME 0 at the end at load, unread on cpu0",
        AT_LOAD,
        each(register("closed", "EFER", CLEAR, "1"), register("closed", "EFER", UNREAD, "0")),
        "svme-not-set",
    ),
    ("SVME 0 at the end at load", AT_LOAD, register("closed", "EFER", CLEAR), "svme-not-set"),
    (
        "SVME 0 at the end, at load N",
        AT_LOAD,
        each(
            at_load("N"),
            register("before", "EFER", CLEAR),
            register("closed", "EFER", CLEAR),
            register("closed", "VM_HSAVE_PA", "0x0"),
        ),
        "svme-set-by-create-vm",
    ),
    ("cpu1 went, SVME stays on cpu0", BASE, each(cpu1_went, register("closed", "EFER", SET, "0")), "svme-not-cleared"),
)

CREATE_VM: tuple[Variant, ...] = (
    (
        "create EIO, held on cpu1",
        BASE,
        each(held_at_create, create_answers({"error": "EIO"})),
        "svm-held-by-another-owner",
    ),
    ("create EBUSY, held everywhere", BASE, each(create_fails("EBUSY"), _ALL_SET), "svm-held-by-another-owner"),
    (
        "create EBUSY, held on cpu1, EFER unread on cpu0",
        BASE,
        each(held_at_create, register("before", "EFER", UNREAD, "0")),
        "svm-held-by-another-owner",
    ),
    ("create EINVAL, SVME set", BASE, each(create_fails("EINVAL"), _ALL_SET), "create-vm-failed"),
    (
        "create EBUSY, SVME for another VM",
        BASE,
        each(create_fails("EBUSY"), _ALL_SET, users("qemu")),
        "create-vm-failed",
    ),
    ("create EBUSY, held beside another VM", BASE, each(held_at_create, users("qemu")), "svm-held-by-another-owner"),
    ("create EIO at load", AT_LOAD, each(create_fails("EIO"), _ALL_SET), "create-vm-failed"),
    (
        "create EIO at load N, held",
        AT_LOAD,
        each(create_fails("EIO"), _ALL_SET, at_load("N")),
        "svm-held-by-another-owner",
    ),
    ("create EBUSY, EFER unread", BASE, each(create_fails("EBUSY"), unreadable("EFER", "EPERM")), "create-vm-failed"),
    ("create EBUSY, vboxdrv", BASE, each(held_at_create, module("vboxdrv")), "svm-held-by-another-owner"),
    ("create EBUSY, vmmon", BASE, each(held_at_create, module("vmmon")), "svm-held-by-another-owner"),
    (
        "create EBUSY, vboxdrv and vmmon",
        BASE,
        each(held_at_create, module("vmmon"), module("vboxdrv")),
        "svm-held-by-another-owner",
    ),
    ("create unknown", BASE, each(no_vm, create_answers(None)), "vm-not-created"),
    ("create unknown, SVME set", BASE, create_answers(None), "vm-not-created"),
    ("create answers 1", BASE, create_answers(1), "vm-not-created"),
    ("create answers -1", BASE, create_answers(-1), "vm-not-created"),
    *(
        (f"create {error}", BASE, create_fails(error), "kvm-not-permitted")
        for error in ("EMFILE", "ENFILE", "EINTR", "EAGAIN", "EACCES", "ENOSYS")
    ),
    *(
        (f"API version {error}", BASE, api_version({"error": error}), "kvm-not-permitted")
        for error in ("ENOSYS", "EINTR", "ENOMEM")
    ),
    ("API version unknown", BASE, lambda e: e["ioctls"].update(KVM_GET_API_VERSION=None), "svme-set-by-create-vm"),
    ("API version 0", BASE, api_version(0), "api-version"),
    ("API version EACCES", BASE, api_version({"error": "EACCES"}), "kvm-not-permitted"),
)

GUEST: tuple[Variant, ...] = (
    ("guest wrong, EFER unread", BASE, each(guest_result("wrong"), unreadable("EFER", "EPERM")), "msr-unreadable"),
    (
        "guest wrong, SVME 0 on cpu0",
        BASE,
        each(guest_result("wrong"), register("created", "EFER", CLEAR, "0")),
        "svme-not-set",
    ),
    (
        "guest failed without detail",
        BASE,
        lambda e: e["guest"][1].update(result="failed", detail=None, error=None),
        "guest-failed",
    ),
    (
        "guest skipped without detail",
        BASE,
        lambda e: e["guest"][1].update(result="skipped", detail=None, error=None),
        "svme-set-by-create-vm",
    ),
    (
        "guest wrong, then ok",
        BASE,
        lambda e: e["guest"].insert(0, {**e["guest"][1], "result": "wrong"}),
        "guest-failed",
    ),
    (
        "guest ok, then skipped",
        AT_LOAD,
        lambda e: e["guest"].append({**e["guest"][1], "result": "skipped"}),
        "svme-set-at-module-load",
    ),
    ("guest timeout, EINTR", BASE, guest_result("timeout", "EINTR"), "guest-failed"),
    ("guests skipped", BASE, guests_skipped, "svme-set-by-create-vm"),
    (
        "guests failed",
        BASE,
        lambda e: [run.update(result="timeout", detail="KVM_RUN") for run in e["guest"]],
        "guest-failed",
    ),
    ("guest wrong on cpu1, which went", BASE, each(guest_result("wrong"), cpu1_went), "guest-failed"),
)

SVME = (*WHO_SET_SVME, *RELEASED, *CREATE_VM, *GUEST)
