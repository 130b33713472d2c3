"""Evidence in which one part of a compound condition of the judge is so, or not so, that no other table changes alone.

What CPUs, lists of CPUs, guests, uevents, and the kernel's log lack, and what shows the same by another way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.helpers.evidence_changes import (
    CLEAR,
    SET,
    UNREAD,
    cpu1_went,
    device,
    everywhere,
    kvm_amd,
    leaf,
    log,
    machine,
    module,
    no_flag,
    snapshot_missing,
    vendor,
    without_counts,
    without_module,
)
from tests.helpers.passive_variants import passive, passively
from tests.helpers.trace_variants import CREATE
from tests.helpers.variants import (
    AT_LOAD,
    BASE,
    Evidence,
    Variant,
    affinity_refused,
    another_vm,
    api_version,
    came_online,
    create_fails,
    each,
    intel,
    lacks_svm,
    modprobe_answers,
    no_kvm_amd,
    not_permitted,
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


def no_cpu(evidence: Evidence) -> None:
    """A sandbox without /proc, /sys and /dev/cpu: nothing names a CPU."""
    evidence["cpus"].update(online=None, online_at_end=None, cpuid={}, cpuinfo={"error": "ENOENT"})
    evidence["guest"] = []
    for snapshot in evidence["snapshots"]:
        snapshot["cpus"] = {}


def unknown_lists(evidence: Evidence) -> None:
    evidence["cpus"].update(online=None, online_at_end=None)


def no_cpu_before(evidence: Evidence) -> None:
    """Nothing identifies a CPU, and none is named before KVM_CREATE_VM."""
    evidence["cpus"].update(online=None, online_at_end=None, cpuid={}, cpuinfo={"error": "ENOENT"})
    evidence["snapshots"][0]["cpus"] = {}


def no_cpu_with_a_vm(evidence: Evidence) -> None:
    """cpu0 was there before KVM_CREATE_VM, its registers were not read, and no CPU is named after it."""
    identity = {source: {"0": evidence["cpus"][source]["0"]} for source in ("cpuid", "cpuinfo")}
    no_cpu(evidence)
    evidence["cpus"].update(identity)
    evidence["snapshots"][0]["cpus"] = {"0": dict.fromkeys(("EFER", "VM_CR", "VM_HSAVE_PA"))}


def eight_cpus(evidence: Evidence) -> None:
    """Another bit of EFER is set on each CPU: more values than a text shows."""
    evidence["cpus"].update(online="0-7", online_at_end="0-7")
    for source in ("cpuid", "cpuinfo"):
        evidence["cpus"][source] = {str(cpu): evidence["cpus"][source]["0"] for cpu in range(8)}
    for snapshot in evidence["snapshots"]:
        registers = snapshot["cpus"]["0"]
        efer, page = int(registers["EFER"], 16), int(registers["VM_HSAVE_PA"], 16)
        for cpu in range(8):
            values = {"EFER": hex(efer | 1 << 20 + cpu), "VM_HSAVE_PA": hex(page and page + cpu * 0x1000)}
            snapshot["cpus"][str(cpu)] = {**registers, **values}


def another_bit(cpu: str) -> Callable[[Evidence], None]:
    """A bit of EFER that has nothing to do with SVM is always set on this CPU."""

    def change(evidence: Evidence) -> None:
        for snapshot in evidence["snapshots"]:
            if cpu in snapshot["cpus"]:
                registers = snapshot["cpus"][cpu]
                registers["EFER"] = hex(int(registers["EFER"], 16) | 1 << 14)

    return change


def cpu1_unidentified(evidence: Evidence) -> None:
    """Neither raw CPUID nor /proc/cpuinfo has cpu1."""
    for source in ("cpuid", "cpuinfo"):
        del evidence["cpus"][source]["1"]


def cpu1_went_before(evidence: Evidence) -> None:
    """cpu1 went offline before KVM_CREATE_VM."""
    cpu1_went(evidence)
    for phase in ("created", "closed"):
        toggled(phase)(evidence)


def cpu2_came(evidence: Evidence) -> None:
    """cpu2 came online after the first snapshot."""
    evidence["cpus"]["online_at_end"] = "0-2"
    for snapshot in evidence["snapshots"][1:]:
        registers = snapshot["cpus"]["1"]
        page = int(registers["VM_HSAVE_PA"], 16)
        snapshot["cpus"]["2"] = {**registers, "VM_HSAVE_PA": hex(page and page + 0x1000)}


def left_out(*cpus: int) -> Callable[[Evidence], None]:
    """The guest was not to run on these CPUs."""

    def change(evidence: Evidence) -> None:
        evidence["guest_left_out"] = {str(cpu): "isolated" for cpu in cpus}
        evidence["guest"] = [run for run in evidence["guest"] if run["cpu"] not in cpus]

    return change


def runs_on_cpu1(*runs: tuple[str, str, str | None]) -> Callable[[Evidence], None]:
    """The runs on cpu1: result, detail, error."""

    def change(evidence: Evidence) -> None:
        evidence["guest"][1:] = [{"cpu": 1, "result": r, "detail": d, "error": e} for r, d, e in runs]

    return change


def event(place: int, **fields: Any) -> Callable[[Evidence], None]:
    """One more uevent at this place of the list: by default, another process creates the only VM."""
    usual = {"event": "create", "pid": 4711, "comm": "qemu", "ours": False, "count": 1, "created": 9}
    return lambda evidence: evidence["uevents"]["events"].insert(place, {**usual, "phase": "created", **fields})


def same_pid_before(evidence: Evidence) -> None:
    """A process that is gone had our PID, and created a second VM."""
    event(0, pid=evidence["uevents"]["events"][0]["pid"], count=2, phase="before")(evidence)


def kvm_linked(evidence: Evidence) -> None:
    """A module that is no vendor module is linked to kvm, and counts in its references."""
    evidence["modules"]["kvm"].update(refcount=2, holders=["kvm_amd", "vboxdrv"])


def with_flag(evidence: Evidence) -> None:
    for info in evidence["cpus"]["cpuinfo"].values():
        info["flags"].append("svm")


def user_without_svm(evidence: Evidence) -> None:
    """An ordinary user of a host with kvm_pvm who can read raw CPUID, and may not open /dev/kvm."""
    not_permitted(evidence)
    leaf("0x80000001", 2, "0x1")(evidence)
    no_flag(evidence)
    evidence["modules"]["kvm_pvm"] = evidence["modules"].pop("kvm_amd")


def of_runs(**fields: Any) -> Callable[[Evidence], None]:
    """Fields of each KVM_RUN of a watched command."""

    def change(evidence: Evidence) -> None:
        for call in evidence["watch"]["calls"]:
            if call["name"] == "KVM_RUN":
                call.update(fields)

    return change


def not_loaded(*texts: str) -> Callable[[Evidence], None]:
    """kvm_amd is not loaded, and the kernel's log has these lines."""
    return each(no_kvm_amd, log(*texts))


def refused(*texts: str, answer: str = "Operation not supported") -> Callable[[Evidence], None]:
    """The kernel refused kvm_amd, and its log has these lines."""
    return each(modprobe_answers(1, f"modprobe: ERROR: could not insert 'kvm_amd': {answer}"), log(*texts))


CPUS: tuple[Variant, ...] = (
    ("passive, no CPU known", BASE, each(no_cpu, passive, log("kvm: no hardware support")), "msr-unreadable"),
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
