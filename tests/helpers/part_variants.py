"""Evidence in which one part of a compound condition of the judge is so, or not so, that no other table changes alone.

What CPUs, lists of CPUs, guests, uevents, and the kernel's log lack, and what shows the same by another way.
"""

from __future__ import annotations

from tests.helpers.evidence_changes import (
    CLEAR,
    SET,
    UNREAD,
    cpu1_went,
    device,
    everywhere,
    kvm_amd,
    log,
    machine,
    module,
    no_flag,
    snapshot_missing,
    vendor,
    without_counts,
    without_module,
)
from tests.helpers.part_changes import (
    another_bit,
    cpu1_unidentified,
    cpu1_went_before,
    cpu2_came,
    eight_cpus,
    event,
    kvm_linked,
    left_out,
    no_cpu,
    no_cpu_before,
    no_cpu_with_a_vm,
    not_loaded,
    of_runs,
    refused,
    runs_on_cpu1,
    same_pid_before,
    unknown_lists,
    user_without_svm,
    with_flag,
)
from tests.helpers.passive_variants import passive, passively
from tests.helpers.trace_variants import CREATE
from tests.helpers.variants import (
    AT_LOAD,
    BASE,
    Variant,
    affinity_refused,
    another_vm,
    api_version,
    came_online,
    create_fails,
    each,
    intel,
    lacks_svm,
    no_kvm_amd,
    register,
    set_by_nobody_known,
    svme_not_cleared,
    through_kvm_pvm,
    toggled,
    unreadable,
    without_cpuid,
    without_sysfs,
    without_uevents,
)
from tests.helpers.watch_variants import (
    OWN,
    OWN_AT_LOAD,
    QEMU,
    QEMU_AT_LOAD,
    create_failed,
    run_not_observed,
)

_NX = "kvm_amd: NX (Execute Disable) not supported"
_OTHER_VENDOR = "kvm: already loaded vendor module 'kvm_pvm'"
_LOADED = "kvm_amd: Nested Paging enabled"


CPUS: tuple[Variant, ...] = (
    ("passive, no CPU known", BASE, each(no_cpu, passive, log("kvm: no hardware support")), "msr-unreadable"),
    ("no CPU known", BASE, no_cpu, "msr-unreadable"),
    ("no CPU known while a VM was alive", BASE, no_cpu_with_a_vm, "msr-unreadable"),
    (
        "VM without kvm_amd, no CPU known before",
        BASE,
        each(no_cpu_before, without_module("kvm_amd")),
        "msr-unreadable",
    ),
    ("machine aarch64, no CPU known", BASE, each(no_cpu, machine("aarch64")), "vendor-not-amd"),
    ("eight values of EFER", BASE, eight_cpus, "svme-set-by-create-vm"),
    ("cpu1 unidentified", BASE, cpu1_unidentified, "svme-set-by-create-vm"),
    ("cpu1 came online, unidentified", BASE, each(came_online, cpu1_unidentified), "svme-set-by-create-vm"),
    (
        "cpu1 came online, another bit of EFER on cpu0",
        BASE,
        each(came_online, another_bit("0")),
        "svme-set-by-create-vm",
    ),
    ("cpu1 came online, no guest on it", BASE, each(came_online, affinity_refused), "guest-not-run"),
    ("cpu1 went before, no guest on it", BASE, each(affinity_refused, cpu1_went_before), "svme-set-by-create-vm"),
    (
        "cpu1 not in closed, CPUs at the end unknown",
        BASE,
        each(toggled("closed"), lambda e: e["cpus"].update(online_at_end=None)),
        "svme-set-by-create-vm",
    ),
    (
        "cpu2 came online, SVME before on cpu0",
        BASE,
        each(cpu2_came, register("before", "EFER", SET, "0"), without_uevents),
        "svme-owner-unknown",
    ),
    ("EFER unknown after, cpu1 went", BASE, each(register("created", "EFER", None), cpu1_went), "msr-unreadable"),
    (
        "online CPUs unknown, SVME by nobody known",
        BASE,
        each(set_by_nobody_known, unknown_lists),
        "svme-owner-unknown",
    ),
    (
        "online CPUs unknown, another bit of EFER on cpu1",
        BASE,
        each(another_bit("1"), unknown_lists),
        "msr-unreadable",
    ),
)

_UNREADABLE = unreadable("EFER", "EPERM")

GUESTS: tuple[Variant, ...] = (
    ("EFER unread, cpu1 not in the cpuset", BASE, each(_UNREADABLE, affinity_refused), "guest-ran"),
    ("EFER unread, cpu1 left out", BASE, each(_UNREADABLE, left_out(1)), "guest-ran"),
    ("EFER unread, no run on cpu1", BASE, each(_UNREADABLE, runs_on_cpu1()), "guest-ran"),
    ("EFER unread, no snapshot with a VM", BASE, each(_UNREADABLE, snapshot_missing("created")), "msr-unreadable"),
    ("EFER unread, kvm_amd still coming", BASE, each(_UNREADABLE, kvm_amd(state="coming")), "msr-unreadable"),
    ("all CPUs left out", BASE, left_out(0, 1), "svme-set-by-create-vm"),
    (
        "guest skipped twice",
        BASE,
        runs_on_cpu1(("skipped", "sched_setaffinity", "EINVAL"), ("skipped", "EFER.SVME is not 1 there", None)),
        "svme-set-by-create-vm",
    ),
    ("guest ok, then wrong", BASE, runs_on_cpu1(("ok", "", None), ("wrong", "KVM_RUN", None)), "guest-failed"),
    (
        "guest refused, then ok",
        AT_LOAD,
        runs_on_cpu1(("failed", "KVM_RUN", "EPERM"), ("ok", "", None)),
        "svme-set-at-module-load",
    ),
)

ACCESS: tuple[Variant, ...] = (
    ("device of an unknown owner", BASE, device(owner=None), "svme-set-by-create-vm"),
    ("user, kvm_pvm, no SVM bit", BASE, user_without_svm, "kvm-not-permitted"),
    ("kvm_pvm, svm in the flags", BASE, each(through_kvm_pvm, with_flag), "kvm-without-svm"),
    (
        "kvm_pvm, KVM_GET_API_VERSION EPERM",
        BASE,
        each(through_kvm_pvm, api_version({"error": "EPERM"})),
        "kvm-without-svm",
    ),
    (
        "create EBUSY, held everywhere, SVMDIS",
        BASE,
        each(create_fails("EBUSY"), everywhere("EFER", SET), everywhere("VM_CR", "0x18")),
        "firmware-disabled",
    ),
    ("passive, kvm_pvm, no /sys/module", BASE, each(through_kvm_pvm, passive, without_sysfs), "cpu-lacks-svm"),
)

_SET = register("before", "EFER", SET)

OTHERS: tuple[Variant, ...] = (
    (
        "SVME 0 before at load, unread at the end",
        AT_LOAD,
        each(register("before", "EFER", CLEAR), register("closed", "EFER", UNREAD, "0")),
        "svme-set-by-create-vm",
    ),
    (
        "SVME stays, an unnamed process created a VM",
        BASE,
        each(svme_not_cleared, event(9, comm=None, count=2, phase="closed")),
        "svme-set-by-create-vm",
    ),
    (
        "uevents without COUNT, another VM ended",
        BASE,
        each(event(0, event="destroy"), without_counts),
        "svme-set-by-create-vm",
    ),
    ("passive, SVME set, kvm linked to another module", BASE, passively(_SET, kvm_linked), "vm-not-created"),
    ("passive, SVME set, a VM created later", BASE, passively(_SET, event(0)), "vm-not-created"),
    (
        "passive, SVME set, uevent without a PID",
        BASE,
        passively(_SET, event(0, pid=None, phase="before")),
        "vm-not-created",
    ),
    ("trace, our PID had a VM before", CREATE, same_pid_before, "svme-set-by-create-vm"),
    (
        "trace, another VM ended first",
        CREATE,
        event(1, event="destroy", phase="closed"),
        "svme-set-by-create-vm",
    ),
    ("trace of another vendor's CPU", CREATE, intel, "vendor-not-amd"),
    (
        "another vendor's CPU, SVME left by KVM_CREATE_VM, which failed",
        BASE,
        each(
            create_fails("EINVAL"),
            vendor("GenuineIntel"),
            register("created", "EFER", SET),
            register("closed", "EFER", SET),
        ),
        "vendor-not-amd",
    ),
    (
        "another vendor's CPU, VM_CR changed",
        BASE,
        each(vendor("GenuineIntel"), create_fails("EINVAL"), register("closed", "VM_CR", "0x8")),
        "vendor-not-amd",
    ),
)

COMMANDS: tuple[Variant, ...] = (
    ("own: the exit is known", OWN, of_runs(exit_reason="KVM_EXIT_IO"), "svme-set-by-create-vm"),
    ("own at load: the exit is known", OWN_AT_LOAD, of_runs(exit_reason="KVM_EXIT_IO"), "svme-set-at-module-load"),
    ("own: EFER read by the guest alone", OWN, register("created", "EFER", UNREAD, "1"), "msr-unreadable"),
    (
        "qemu at load: an internal error",
        QEMU_AT_LOAD,
        of_runs(exit_reason="KVM_EXIT_INTERNAL_ERROR"),
        "guest-not-run",
    ),
    ("qemu at load: another call gave 0", QEMU_AT_LOAD, of_runs(name="KVM_SET_TSS_ADDR"), "guest-not-run"),
    ("qemu beside another VM: its guest never ran", QEMU, each(another_vm, run_not_observed), "guest-not-run"),
    ("qemu: no snapshot with its VM", QEMU, snapshot_missing("created"), "msr-unreadable"),
    ("qemu: KVM_CREATE_VM of kvm_pvm failed", QEMU, each(create_failed, through_kvm_pvm), "cpu-lacks-svm"),
)

LOGGED: tuple[Variant, ...] = (
    (
        "log of a host with SME",
        BASE,
        log("Memory Encryption Features active: AMD SME", "kvm_amd: SEV enabled (ASIDs 1 - 509)"),
        "svme-set-by-create-vm",
    ),
    (
        "log of a guest with a paravisor",
        BASE,
        each(lacks_svm, log("Hyper-V: Isolation Config: Group A 0x1, Group B 0xba2")),
        "sev-guest",
    ),
    ("refused between two successes", BASE, not_loaded(_LOADED, _NX, _LOADED), "kvm-amd-not-loaded"),
    ("refused for kvm_pvm, which went", BASE, not_loaded(_OTHER_VENDOR), "kvm-amd-not-loaded"),
    ("refused for kvm_pvm, which went, then for NX", BASE, not_loaded(_OTHER_VENDOR, _NX), "kvm-amd-load-failed"),
    (
        "refused for kvm_pvm, then for its key",
        BASE,
        each(refused(_OTHER_VENDOR, answer="Key was rejected by service"), module("kvm_pvm")),
        "kvm-amd-load-failed",
    ),
    (
        "SVMDIS at boot, clear now",
        BASE,
        not_loaded("SVM disabled (by BIOS) in MSR_VM_CR"),
        "kvm-amd-not-loaded",
    ),
    (
        "raw CPUID unread, clearcpuid, the log shows no SVM",
        BASE,
        each(no_kvm_amd, without_cpuid, no_flag, log("Clearing CPUID bits: svm", "has_svm: svm not available")),
        "kvm-amd-load-failed",
    ),
    (
        "VirtualBox with VMs, refused for NX",
        AT_LOAD,
        each(
            refused(_NX),
            register("before", "EFER", CLEAR),
            module("vboxdrv", refcount=3),
            module("kvm", parameters={"enable_virt_at_load": "Y"}),
        ),
        "kvm-amd-load-failed",
    ),
)

PARTS = (*CPUS, *GUESTS, *ACCESS, *OTHERS, *COMMANDS, *LOGGED)
