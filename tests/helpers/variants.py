"""Evidence that is changed from what a real kernel gave, where the lab cannot produce it, or not yet.

Each function takes recorded evidence and changes it in place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Evidence = Any


def set_register(evidence: Evidence, phase: str, name: str, value: Any, cpus: tuple[str, ...] = ("0", "1")) -> None:
    for snapshot in evidence["snapshots"]:
        if snapshot["phase"] == phase:
            for cpu in cpus:
                snapshot["cpus"][cpu][name] = value


def each(*changes: Callable[[Evidence], Any]) -> Callable[[Evidence], None]:
    """A change that is all of these, one after the other."""

    def change(evidence: Evidence) -> None:
        for one in changes:
            one(evidence)

    return change


def register(phase: str, name: str, value: Any, *cpus: str) -> Callable[[Evidence], None]:
    """The change that set_register() is."""
    return lambda evidence: set_register(evidence, phase, name, value, cpus or ("0", "1"))


def set_everywhere(evidence: Evidence, name: str, value: Any, cpus: tuple[str, ...] = ("0", "1")) -> None:
    for phase in ("before", "created", "closed"):
        set_register(evidence, phase, name, value, cpus)


def set_leaf(evidence: Evidence, leaf: str, index: int, value: str, cpus: tuple[str, ...] = ("0", "1")) -> None:
    for cpu in cpus:
        evidence["cpus"]["cpuid"][cpu][leaf][index] = value


def no_vm(evidence: Evidence, answer: Any = None) -> None:
    """KVM_CREATE_VM was not reached, or failed."""
    evidence["ioctls"]["KVM_CREATE_VM"] = answer
    evidence["guest"] = []
    evidence["uevents"]["events"] = []
    for phase in ("created", "closed"):
        set_register(evidence, phase, "EFER", "0xd01")


def no_device(evidence: Evidence) -> None:
    no_vm(evidence)
    evidence["device"].update(registered=False, opened=None, type=None, number=None, mode=None, owner=None, group=None)
    evidence["ioctls"].update(KVM_GET_API_VERSION=None, KVM_CHECK_EXTENSION={})
    evidence["snapshots"] = evidence["snapshots"][:1]


def no_kvm_amd(evidence: Evidence) -> None:
    no_device(evidence)
    for name in ("kvm", "kvm_amd"):
        del evidence["modules"][name]


def intel(evidence: Evidence) -> None:
    no_kvm_amd(evidence)
    for index, value in ((1, "0x756e6547"), (2, "0x6c65746e"), (3, "0x49656e69")):
        set_leaf(evidence, "0x0", index, value)


def lacks_svm(evidence: Evidence, cpus: tuple[str, ...] = ("0", "1")) -> None:
    no_kvm_amd(evidence)
    set_leaf(evidence, "0x80000001", 2, "0x1", cpus)


def through_kvm_pvm(evidence: Evidence) -> None:
    for cpu in ("0", "1"):
        set_leaf(evidence, "0x80000001", 2, "0x1", (cpu,))
        evidence["cpus"]["cpuinfo"][cpu]["flags"].remove("svm")
    set_everywhere(evidence, "EFER", {"error": "ENOENT"})
    set_everywhere(evidence, "VM_CR", {"error": "ENOENT"})
    evidence["modules"]["kvm_pvm"] = evidence["modules"].pop("kvm_amd")


def firmware_disabled(evidence: Evidence) -> None:
    no_kvm_amd(evidence)
    set_everywhere(evidence, "VM_CR", "0x18")


def firmware_disabled_with_key(evidence: Evidence) -> None:
    firmware_disabled(evidence)
    set_leaf(evidence, "0x8000000a", 3, "0x4")


def firmware_disabled_on_one(evidence: Evidence) -> None:
    no_kvm_amd(evidence)
    set_everywhere(evidence, "VM_CR", "0x18", ("1",))


def sev_guest(evidence: Evidence) -> None:
    no_kvm_amd(evidence)
    evidence["cpus"]["sev_status"] = "0x1"


def load_failed(evidence: Evidence) -> None:
    no_kvm_amd(evidence)
    output = "modprobe: ERROR: could not insert 'kvm_amd': Operation not permitted"
    evidence["loads"].append({"module": "kvm_amd", "status": 1, "output": output, "unloaded": None})


def held_at_load(evidence: Evidence) -> None:
    no_kvm_amd(evidence)
    set_register(evidence, "before", "EFER", "0x1d01", ("1",))


def held_at_create(evidence: Evidence) -> None:
    no_vm(evidence, {"error": "EBUSY"})
    set_everywhere(evidence, "EFER", "0x1d01", ("1",))


def not_permitted(evidence: Evidence) -> None:
    no_vm(evidence)
    evidence["device"]["opened"] = {"error": "EACCES"}
    evidence["host"]["euid"] = 1000
    evidence["snapshots"] = evidence["snapshots"][:1]
    for name in ("EFER", "VM_CR", "VM_HSAVE_PA"):
        set_register(evidence, "before", name, {"error": "EACCES"})


def open_fails(error: str) -> Callable[[Evidence], None]:
    def change(evidence: Evidence) -> None:
        no_vm(evidence)
        evidence["device"]["opened"] = {"error": error}

    return change


def api_version(answer: Any) -> Callable[[Evidence], None]:
    def change(evidence: Evidence) -> None:
        no_vm(evidence)
        evidence["ioctls"]["KVM_GET_API_VERSION"] = answer

    return change


def create_fails(error: str) -> Callable[[Evidence], None]:
    return lambda evidence: no_vm(evidence, {"error": error})


def memory_left(kilobytes: int) -> Callable[[Evidence], None]:
    return lambda evidence: evidence.update(available_kb=kilobytes)


def svme_not_set(evidence: Evidence) -> None:
    set_register(evidence, "created", "EFER", "0xd01", ("1",))
    evidence["guest"][1] = {"cpu": 1, "result": "skipped", "detail": "EFER.SVME is not 1 there", "error": None}


def svme_not_cleared(evidence: Evidence) -> None:
    set_register(evidence, "closed", "EFER", "0x1d01", ("1",))


def guest_result(result: str, error: str | None = None) -> Callable[[Evidence], None]:
    def change(evidence: Evidence) -> None:
        evidence["guest"][1].update(result=result, detail="KVM_RUN", error=error)

    return change


def unreadable(name: str, error: str, cpus: tuple[str, ...] = ("0", "1")) -> Callable[[Evidence], None]:
    return lambda evidence: set_everywhere(evidence, name, {"error": error}, cpus)


def another_vm(evidence: Evidence) -> None:
    """A VM of another process is alive during the whole probe, before 6.12 or without enable_virt_at_load."""
    set_everywhere(evidence, "EFER", "0x1d01")
    for event in evidence["uevents"]["events"]:
        event["count"] += 1
        event["created"] += 1


def another_vm_without_uevents(evidence: Evidence) -> None:
    set_everywhere(evidence, "EFER", "0x1d01")
    evidence["uevents"] = {"source": None, "error": "pyudev cannot be used", "events": []}
    evidence["vm_users"] = [{"pid": 4711, "comm": "qemu-system-x86", "vms": 1}]


def set_by_nobody_known(evidence: Evidence) -> None:
    set_everywhere(evidence, "EFER", "0x1d01")


def without_uevents(evidence: Evidence) -> None:
    evidence["uevents"] = {"source": None, "error": "pyudev cannot be used", "events": []}


def set_when_closed_without_uevents(evidence: Evidence) -> None:
    """A defect of the kernel, or a VM of another process: without uevents nothing shows which."""
    without_uevents(evidence)
    set_register(evidence, "closed", "EFER", "0x1d01")


def modprobe_answers(status: int | None, output: str) -> Callable[[Evidence], None]:
    def change(evidence: Evidence) -> None:
        no_kvm_amd(evidence)
        evidence["loads"].append({"module": "kvm_amd", "status": status, "output": output, "unloaded": None})

    return change


def refused_to_a_user(evidence: Evidence) -> None:
    evidence["host"]["euid"] = 1000
    load_failed(evidence)
    set_everywhere(evidence, "VM_CR", {"error": "EACCES"})


def built_in(change: Callable[[Evidence], None]) -> Callable[[Evidence], None]:
    """The same on a kernel with kvm_amd built in: /sys/module/kvm_amd exists whatever it found."""

    def changed(evidence: Evidence) -> None:
        change(evidence)
        evidence["modules"]["kvm_amd"] = {"state": "builtin", "refcount": None, "holders": [], "parameters": {}}

    return changed


def pvm_in_an_sev_guest(evidence: Evidence) -> None:
    through_kvm_pvm(evidence)
    evidence["cpus"]["sev_status"] = "0x1"


def nothing_known_but_a_vm(evidence: Evidence) -> None:
    through_kvm_pvm(evidence)
    without_cpuid(evidence)
    without_sysfs(evidence)
    evidence["cpus"]["cpuinfo"] = {"error": "ENOENT"}


def out_of_memory_beside_others(evidence: Evidence) -> None:
    no_vm(evidence, {"error": "ENOMEM"})
    set_everywhere(evidence, "EFER", "0x1d01")


def in_use_out_of_sight(evidence: Evidence) -> None:
    """A VM outside this container: neither its process nor its uevents are visible."""
    set_everywhere(evidence, "EFER", "0x1d01")
    without_uevents(evidence)
    evidence["modules"]["kvm_amd"]["refcount"] = 2


def of_one_cpu(change: Callable[[Evidence], None]) -> Callable[[Evidence], None]:
    """As in a container that has only the devices of cpu0."""

    def of_one(evidence: Evidence) -> None:
        change(evidence)
        for leaf in evidence["cpus"]["cpuid"]["1"]:
            evidence["cpus"]["cpuid"]["1"][leaf] = {"error": "ENOENT"}

    return of_one


def toggled(phase: str) -> Callable[[Evidence], None]:
    def change(evidence: Evidence) -> None:
        for snapshot in evidence["snapshots"]:
            if snapshot["phase"] == phase:
                del snapshot["cpus"]["1"]

    return change


def only_lock_differs(evidence: Evidence) -> None:
    no_kvm_amd(evidence)
    set_everywhere(evidence, "VM_CR", "0x8", ("1",))


def came_before_ours(evidence: Evidence) -> None:
    """Between the snapshot and our KVM_CREATE_VM another process created its first VM."""
    for event in evidence["uevents"]["events"]:
        event["count"] += 1
        event["created"] += 1


def affinity_refused(evidence: Evidence) -> None:
    evidence["guest"][1].update(result="skipped", detail="sched_setaffinity", error="EINVAL")


def went_offline(evidence: Evidence) -> None:
    for phase in ("created", "closed"):
        set_register(evidence, phase, "EFER", {"error": "ENXIO"}, ("1",))
    evidence["cpus"]["online_at_end"] = "0"


def came_online(evidence: Evidence) -> None:
    del evidence["snapshots"][0]["cpus"]["1"]
    evidence["cpus"]["online"] = "0"


def low_leaf(evidence: Evidence) -> None:
    set_leaf(evidence, "0x80000000", 0, "0x80000004")


def without_cpuid(evidence: Evidence) -> None:
    for leaves in evidence["cpus"]["cpuid"].values():
        for leaf in leaves:
            leaves[leaf] = {"error": "ENOENT"}


def without_sysfs(evidence: Evidence) -> None:
    evidence["modules"] = None


BASE = "matrix/bookworm/epyc"  # 6.1: SVME follows the VM
AT_LOAD = "matrix/trixie/epyc"  # 6.12: SVME follows kvm_amd

# (name, recorded evidence, change, the reason that it must get)
Variant = tuple[str, str, Callable[[Evidence], Any], str]

VARIANTS: tuple[Variant, ...] = (
    ("intel", BASE, intel, "vendor-not-amd"),
    ("kvm_pvm", BASE, through_kvm_pvm, "kvm-without-svm"),
    ("no SVM bit", BASE, lacks_svm, "cpu-lacks-svm"),
    ("no SVM bit on cpu1", BASE, lambda e: lacks_svm(e, ("1",)), "cpus-disagree"),
    ("SVMDIS", BASE, firmware_disabled, "firmware-disabled"),
    ("SVMDIS with SVML", BASE, firmware_disabled_with_key, "firmware-disabled"),
    ("SVMDIS on cpu1", BASE, firmware_disabled_on_one, "cpus-disagree"),
    ("SEV guest", BASE, sev_guest, "sev-guest"),
    ("kvm_amd not loaded", BASE, no_kvm_amd, "kvm-amd-not-loaded"),
    ("kvm_amd refused", BASE, load_failed, "kvm-amd-load-failed"),
    ("held, kvm_amd not loaded", AT_LOAD, held_at_load, "svm-held-by-another-owner"),
    ("held, EBUSY", BASE, held_at_create, "svm-held-by-another-owner"),
    ("no /dev/kvm", BASE, no_device, "kvm-device-missing"),
    ("open ENOENT", BASE, open_fails("ENOENT"), "kvm-device-missing"),
    ("open ENODEV", BASE, open_fails("ENODEV"), "kvm-device-missing"),
    ("open ENXIO", BASE, open_fails("ENXIO"), "kvm-device-missing"),
    ("open EIO", BASE, open_fails("EIO"), "kvm-device-missing"),
    ("open EPERM", BASE, open_fails("EPERM"), "kvm-not-permitted"),
    ("open EMFILE", BASE, open_fails("EMFILE"), "kvm-not-permitted"),
    ("ordinary user", BASE, not_permitted, "kvm-not-permitted"),
    ("API version 11", BASE, api_version(11), "api-version"),
    ("API version ENOTTY", BASE, api_version({"error": "ENOTTY"}), "api-version"),
    ("create ENOMEM", BASE, create_fails("ENOMEM"), "kvm-not-permitted"),
    ("create ENOMEM, memory left", BASE, each(create_fails("ENOMEM"), memory_left(1 << 20)), "create-vm-failed"),
    ("create ENOMEM, 64 MiB", BASE, each(create_fails("ENOMEM"), memory_left(1 << 16)), "create-vm-failed"),
    (
        "create ENOMEM, little memory",
        BASE,
        each(create_fails("ENOMEM"), memory_left((1 << 16) - 1)),
        "kvm-not-permitted",
    ),
    ("create EPERM", BASE, create_fails("EPERM"), "kvm-not-permitted"),
    ("create EBUSY, SVME 0", BASE, create_fails("EBUSY"), "create-vm-failed"),
    ("SVME 0 on cpu1", BASE, svme_not_set, "svme-not-set"),
    ("SVME stays on cpu1", BASE, svme_not_cleared, "svme-not-cleared"),
    ("SVME lost at closing", AT_LOAD, lambda e: set_register(e, "closed", "EFER", "0xd01", ("0",)), "svme-not-set"),
    ("guest wrong", BASE, guest_result("wrong"), "guest-failed"),
    ("guest timeout", BASE, guest_result("timeout"), "guest-failed"),
    ("guest EINVAL", BASE, guest_result("failed", "EINVAL"), "guest-failed"),
    ("guest failed at load", AT_LOAD, guest_result("failed", "EIO"), "guest-failed"),
    ("EFER ENOENT", BASE, unreadable("EFER", "ENOENT"), "guest-ran"),
    ("EFER EPERM", BASE, unreadable("EFER", "EPERM"), "guest-ran"),
    ("EFER EIO on cpu1", BASE, unreadable("EFER", "EIO", ("1",)), "msr-unreadable"),
    ("EFER short", BASE, unreadable("EFER", "short read: 3 of 8 bytes"), "guest-ran"),
    ("VM_CR EIO, SVME shows", BASE, unreadable("VM_CR", "EIO"), "svme-set-by-create-vm"),
    ("another VM", BASE, another_vm, "svme-set-by-another-vm"),
    ("another VM, no uevents", BASE, another_vm_without_uevents, "svme-set-by-another-vm"),
    ("SVME by nobody known", BASE, set_by_nobody_known, "svme-owner-unknown"),
    ("another VM came first", BASE, came_before_ours, "interfered"),
    ("cpuset, SVME changed", BASE, affinity_refused, "svme-set-by-create-vm"),
    ("cpuset, SVME at load", AT_LOAD, affinity_refused, "guest-not-run"),
    ("cpu1 went offline", BASE, went_offline, "msr-unreadable"),
    ("cpu1 came online", BASE, came_online, "svme-set-by-create-vm"),
    ("SVME when closed, no uevents", BASE, set_when_closed_without_uevents, "svme-owner-unknown"),
    ("modprobe does nothing", BASE, modprobe_answers(0, ""), "kvm-amd-not-loaded"),
    ("no modprobe", BASE, modprobe_answers(None, "there is no modprobe"), "kvm-amd-not-loaded"),
    ("kvm_amd refused to a user", BASE, refused_to_a_user, "msr-unreadable"),
    ("kvm_pvm, kvm_amd built in", BASE, built_in(through_kvm_pvm), "kvm-without-svm"),
    ("no SVM bit, kvm_amd built in", BASE, built_in(lacks_svm), "cpu-lacks-svm"),
    ("held, kvm_amd built in", AT_LOAD, built_in(held_at_load), "svm-held-by-another-owner"),
    ("kvm_pvm in an SEV guest", BASE, pvm_in_an_sev_guest, "kvm-without-svm"),
    ("nothing known but a VM", BASE, nothing_known_but_a_vm, "msr-unreadable"),
    ("create ENOMEM, VMs of others", BASE, out_of_memory_beside_others, "kvm-not-permitted"),
    ("VM out of sight", BASE, in_use_out_of_sight, "svme-set-by-another-vm"),
    ("cpu1 not in created", BASE, toggled("created"), "msr-unreadable"),
    ("online CPUs unknown", BASE, lambda e: e["cpus"].update(online=None, online_at_end=None), "msr-unreadable"),
    ("cpu1 not in closed", BASE, toggled("closed"), "svme-set-by-create-vm"),
    ("only VM_CR.LOCK differs", BASE, only_lock_differs, "kvm-amd-not-loaded"),
    ("low highest leaf", BASE, low_leaf, "svme-set-by-create-vm"),
    ("raw CPUID of cpu0 alone, no SVM", BASE, of_one_cpu(lacks_svm), "cpu-lacks-svm"),
    ("raw CPUID of cpu0 alone, kvm_pvm", BASE, of_one_cpu(through_kvm_pvm), "kvm-without-svm"),
    ("raw CPUID unreadable", BASE, without_cpuid, "svme-set-by-create-vm"),
    ("no /sys/module", BASE, without_sysfs, "svme-set-by-create-vm"),
)
