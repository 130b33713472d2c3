"""Evidence that has all but one of what a cause asks for, and gets another cause, or none.

Each part of a compound condition of the table of causes is here the only one that is not so.
"""

from __future__ import annotations

from typing import Any, Optional

from tests.helpers.cause_variants import (
    AT_LOAD,
    BASE,
    CAUSED,
    DOCKER,
    NO_OPTION,
    NOT_FOUND,
    NOT_PERMITTED,
    OPEN_EACCES,
    Change,
    all_of,
    attempt,
    bare_metal,
    built_in_refused,
    command_line,
    device,
    firmware,
    guest_wrong,
    ioctl,
    line,
    lockdown,
    module,
    module_files,
    nodev,
    refused,
    release,
    rights,
    set_guest,
    surroundings,
    svm_through_kvm,
    svme_lost,
    unread,
    user,
)
from tests.helpers.evidence_changes import at_load, everywhere, leaf, leaf_unread, log, no_flag, under, without_flags
from tests.helpers.variants import (
    Evidence,
    held_at_create,
    held_at_load,
    lacks_svm,
    no_device,
    no_kvm_amd,
    register,
    set_everywhere,
    without_cpuid,
)

# (name, recorded evidence, change, reason, cause)
Near = tuple[tuple[str, str, Change, str, Optional[str]], ...]

TMPFS = {"path": "/dev", "type": "tmpfs", "options": "rw"}
UNKNOWN = {"error": "EACCES"}
NO_NODE = device("ENOENT", type=None, number=None, mode=None)
USER = user(1000)
OTHER_VENDOR = "kvm: already loaded vendor module 'kvm_pvm'"
UNSIGNED = "Loading of unsigned module is rejected"


def node(**fields: Any) -> Change:
    return lambda evidence: evidence["device"].update(fields)


def no_guest(evidence: Evidence) -> None:
    """No guest was run, which would show SVM without registers."""
    evidence["guest"] = []


def loads(*attempts: tuple[str, int | None, str]) -> Change:
    """Attempts to load modules, in place of all others: module, status, output."""

    def change(evidence: Evidence) -> None:
        evidence["loads"] = [{"module": m, "status": s, "output": o, "unloaded": None} for m, s, o in attempts]

    return change


def cpu_family(value: str | None) -> Change:
    """The family in /proc/cpuinfo."""

    def change(evidence: Evidence) -> None:
        for info in evidence["cpus"]["cpuinfo"].values():
            info["cpu_family"] = value

    return change


def no_modules(evidence: Evidence) -> None:
    evidence["modules"] = None


def vbox(**fields: Any) -> Change:
    return module("vboxdrv", **fields)


def at_load_y(evidence: Evidence) -> None:
    evidence["modules"].setdefault("kvm", {"state": "live", "refcount": 0, "holders": [], "parameters": {}})
    at_load("Y")(evidence)


ACCESS: Near = (
    ("nodev mount, EPERM", BASE, all_of(device("EPERM"), nodev), "kvm-not-permitted", "device-cgroup-refuses"),
    (
        "two nodev mounts",
        BASE,
        all_of(
            device("EACCES"),
            rights(dev_mounts=[{**TMPFS, "options": "nodev"}, {**TMPFS, "path": "/dev/x", "options": "nodev"}]),
        ),
        "kvm-not-permitted",
        "nodev-mount",
    ),
    (
        "option that contains nodev",
        BASE,
        all_of(device("EACCES"), rights(dev_mounts=[{**TMPFS, "options": "rw,x-nodev"}])),
        "kvm-not-permitted",
        "open-refused-by-policy",
    ),
    (
        "mounts unknown",
        BASE,
        all_of(device("EACCES"), rights(dev_mounts=UNKNOWN)),
        "kvm-not-permitted",
        "open-refused-by-policy",
    ),
    ("not in group, root", BASE, OPEN_EACCES, "kvm-not-permitted", "open-refused-by-policy"),
    (
        "not in group, EPERM",
        BASE,
        all_of(OPEN_EACCES, USER, node(opened={"error": "EPERM"})),
        "kvm-not-permitted",
        "device-cgroup-refuses",
    ),
    (
        "not in group, mode unknown",
        BASE,
        all_of(OPEN_EACCES, USER, node(mode=None)),
        "kvm-not-permitted",
        "open-refused-by-policy",
    ),
    (
        "not in group, no group",
        BASE,
        all_of(OPEN_EACCES, USER, node(group=None)),
        "kvm-not-permitted",
        "open-refused-by-policy",
    ),
    (
        "group root may use it",
        BASE,
        all_of(OPEN_EACCES, USER, node(group="root")),
        "kvm-not-permitted",
        "device-for-root-only",
    ),
    (
        "group may only read",
        BASE,
        all_of(OPEN_EACCES, USER, node(mode="0640")),
        "kvm-not-permitted",
        "device-for-root-only",
    ),
    (
        "group may only write",
        BASE,
        all_of(OPEN_EACCES, USER, node(mode="0620")),
        "kvm-not-permitted",
        "device-for-root-only",
    ),
    (
        "everybody may use it",
        BASE,
        all_of(OPEN_EACCES, USER, node(mode="0666")),
        "kvm-not-permitted",
        "open-refused-by-policy",
    ),
    (
        "everybody may use it, not its group",
        BASE,
        all_of(OPEN_EACCES, USER, node(mode="0606")),
        "kvm-not-permitted",
        "open-refused-by-policy",
    ),
    (
        "everybody may do anything, not its group",
        BASE,
        all_of(OPEN_EACCES, USER, node(mode="0607")),
        "kvm-not-permitted",
        "open-refused-by-policy",
    ),
    (
        "its group may do anything",
        BASE,
        all_of(OPEN_EACCES, USER, node(mode="0670")),
        "kvm-not-permitted",
        "not-in-group",
    ),
    (
        "everybody may only read",
        BASE,
        all_of(OPEN_EACCES, USER, node(mode="0664")),
        "kvm-not-permitted",
        "not-in-group",
    ),
    (
        "group that a shell would run",
        BASE,
        all_of(OPEN_EACCES, USER, node(group="kvm; reboot #")),
        "kvm-not-permitted",
        "not-in-group",
    ),
    (
        "in the group",
        BASE,
        all_of(OPEN_EACCES, USER, rights(groups=["users", "kvm"])),
        "kvm-not-permitted",
        "open-refused-by-policy",
    ),
    ("groups unknown", BASE, all_of(OPEN_EACCES, USER, rights(groups=UNKNOWN)), "kvm-not-permitted", "not-in-group"),
    ("rights unknown", BASE, all_of(OPEN_EACCES, USER), "kvm-not-permitted", "not-in-group"),
    ("mode 0600, root", BASE, all_of(OPEN_EACCES, node(mode="0600")), "kvm-not-permitted", "open-refused-by-policy"),
    (
        "mode 0600, EPERM",
        BASE,
        all_of(OPEN_EACCES, USER, node(mode="0600", opened={"error": "EPERM"})),
        "kvm-not-permitted",
        "device-cgroup-refuses",
    ),
    (
        "no mode of a file",
        BASE,
        all_of(OPEN_EACCES, USER, node(mode="rw")),
        "kvm-not-permitted",
        "open-refused-by-policy",
    ),
    ("EPERM in a container", BASE, all_of(device("EPERM"), DOCKER), "kvm-not-permitted", "device-cgroup-refuses"),
    (
        "EACCES, security modules unknown",
        BASE,
        all_of(device("EACCES"), rights(lsm=UNKNOWN)),
        "kvm-not-permitted",
        "open-refused-by-policy",
    ),
    (
        "EACCES, user namespace unknown",
        BASE,
        all_of(device("EACCES"), rights(user_namespace=None)),
        "kvm-not-permitted",
        "open-refused-by-policy",
    ),
    (
        "ioctl refused, strict seccomp",
        BASE,
        all_of(ioctl("KVM_CREATE_VM", "EPERM"), rights(seccomp="1", lsm=None)),
        "kvm-not-permitted",
        "ioctl-refused",
    ),
    (
        "guest refused without an error",
        AT_LOAD,
        lambda e: e["guest"][1].update(result="skipped", detail="not pinned"),
        "guest-not-run",
        None,
    ),
    (
        "guest refused on cpu0, skipped on cpu1",
        AT_LOAD,
        all_of(set_guest("EPERM"), lambda e: e["guest"][1].update(result="skipped", error=None)),
        "guest-not-run",
        "ioctl-refused",
    ),
)

NODE: Near = (
    *(
        (
            f"{name} in the node's place",
            BASE,
            device("ENODEV", type=name, number=None),
            "kvm-device-missing",
            "device-is-file",
        )
        for name in ("symlink", "socket", "fifo", "block")
    ),
    ("number unknown", BASE, device("EIO", number=None), "kvm-device-missing", None),
    ("right number", BASE, device("EIO"), "kvm-device-missing", None),
    (
        "number of a block device",
        BASE,
        device("EIO", type="block", number="1:3"),
        "kvm-device-missing",
        "device-is-file",
    ),
    (
        "folder, not registered",
        BASE,
        device("EISDIR", type="folder", registered=False),
        "kvm-device-missing",
        "device-is-folder",
    ),
    (
        "folder, kvm_amd built in",
        BASE,
        all_of(device("EISDIR", type="folder"), module("kvm_amd", state="builtin", refcount=None)),
        "kvm-device-missing",
        "device-is-folder",
    ),
    (
        "folder, /sys/module unread",
        BASE,
        all_of(device("EISDIR", type="folder"), no_modules),
        "kvm-device-missing",
        "device-is-folder",
    ),
    (
        "built in, registered",
        BASE,
        all_of(built_in_refused(), node(registered=True, type="char", opened={"error": "EIO"})),
        "kvm-device-missing",
        None,
    ),
    (
        "built in, registered unknown",
        BASE,
        all_of(built_in_refused(), node(registered=None, opened={"error": "ENOENT"})),
        "kvm-device-missing",
        None,
    ),
    ("not built in, not registered", BASE, no_device, "kvm-device-missing", None),
    ("container, not registered", BASE, all_of(no_device, DOCKER), "kvm-device-missing", None),
    *(
        (
            f"container {kind}",
            BASE,
            all_of(NO_NODE, surroundings(container=kind)),
            "kvm-device-missing",
            "container-without-device",
        )
        for kind in ("podman", "lxc", "kubernetes", "systemd-nspawn")
    ),
    ("no container", BASE, all_of(NO_NODE, surroundings()), "kvm-device-missing", "node-missing"),
    ("devtmpfs", BASE, all_of(NO_NODE, rights()), "kvm-device-missing", "node-missing"),
    (
        "devtmpfs below tmpfs",
        BASE,
        all_of(NO_NODE, rights(dev_mounts=[TMPFS, {**TMPFS, "type": "devtmpfs"}])),
        "kvm-device-missing",
        "node-missing",
    ),
    ("nothing on /dev", BASE, all_of(NO_NODE, rights(dev_mounts=[])), "kvm-device-missing", "no-devtmpfs"),
    ("mounts of /dev unknown", BASE, all_of(NO_NODE, rights(dev_mounts=UNKNOWN)), "kvm-device-missing", "node-missing"),
    ("no devtmpfs, node exists", BASE, all_of(device("EIO"), rights(dev_mounts=[TMPFS])), "kvm-device-missing", None),
    (
        "no devtmpfs, registered unknown",
        BASE,
        all_of(NO_NODE, rights(dev_mounts=[TMPFS]), node(registered=None)),
        "kvm-device-missing",
        None,
    ),
    ("no node, registered unknown", BASE, all_of(NO_NODE, node(registered=None)), "kvm-device-missing", None),
    ("no driver, ENXIO", BASE, device("ENXIO"), "kvm-device-missing", "node-without-driver"),
    ("no driver, type unknown", BASE, device("ENXIO", type="other"), "kvm-device-missing", None),
)

REGISTERS: Near = (
    ("user, EPERM", BASE, all_of(unread("EPERM"), USER), "msr-unreadable", "registers-need-root"),
    ("user, ENOENT", BASE, all_of(unread("ENOENT"), USER), "msr-unreadable", "registers-need-root"),
    ("user, EIO", BASE, all_of(unread("EIO"), USER), "msr-unreadable", "registers-refused-by-hypervisor"),
    ("container, EPERM", BASE, all_of(unread("EPERM"), DOCKER), "msr-unreadable", "container-without-msr"),
    (
        "no container, EPERM",
        BASE,
        all_of(unread("EPERM"), surroundings()),
        "msr-unreadable",
        "registers-need-capability",
    ),
    (
        "EPERM with the capability",
        BASE,
        all_of(unread("EPERM"), rights()),
        "msr-unreadable",
        "registers-need-capability",
    ),
    (
        "EPERM, capabilities unknown",
        BASE,
        all_of(unread("EPERM"), rights(capabilities=UNKNOWN)),
        "msr-unreadable",
        "registers-need-capability",
    ),
    (
        "EPERM, only CAP_SYS_MODULE",
        BASE,
        all_of(unread("EPERM"), rights(capabilities="10000")),
        "msr-unreadable",
        "registers-need-capability",
    ),
    (
        "EPERM, only CAP_SYS_RAWIO",
        BASE,
        all_of(unread("EPERM"), rights(capabilities="20000")),
        "msr-unreadable",
        "registers-need-capability",
    ),
    ("msr loaded in vain", BASE, all_of(unread("ENOENT"), loads(("msr", 0, ""))), "msr-unreadable", None),
    (
        "msr not found",
        BASE,
        all_of(unread("ENOENT"), loads(("msr", 1, NOT_FOUND.format("msr")))),
        "msr-unreadable",
        "msr-module-missing",
    ),
    (
        "msr refused without a message",
        BASE,
        all_of(unread("ENOENT"), loads(("msr", 1, ""))),
        "msr-unreadable",
        "msr-module-missing",
    ),
    (
        "EIO on one register",
        BASE,
        all_of(no_guest, lambda e: set_everywhere(e, "EFER", {"error": "EIO"})),
        "msr-unreadable",
        "registers-refused-by-hypervisor",
    ),
    ("short read, msr not tried", BASE, all_of(unread("short read: 3 of 8 bytes"), loads()), "msr-unreadable", None),
    ("short read", BASE, unread("short read: 3 of 8 bytes"), "msr-unreadable", None),
    (
        "EFER unread, EIO of VM_HSAVE_PA alone",
        BASE,
        all_of(no_guest, everywhere("EFER", None), everywhere("VM_HSAVE_PA", {"error": "EIO"})),
        "msr-unreadable",
        None,
    ),
)

HYPERVISOR: Near = (
    ("svme lost on bare metal", BASE, all_of(svme_lost, bare_metal), "svme-not-set", None),
    (
        "svme lost, VM_HSAVE_PA 0",
        BASE,
        all_of(svme_lost, register("created", "VM_HSAVE_PA", "0x0")),
        "svme-not-set",
        "hypervisor-loses-svme",
    ),
    (
        "svme lost, VM_HSAVE_PA unread on cpu1",
        BASE,
        all_of(svme_lost, register("created", "VM_HSAVE_PA", UNKNOWN, "1")),
        "svme-not-set",
        "hypervisor-loses-svme",
    ),
    (
        "svme lost on cpu1",
        BASE,
        all_of(register("created", "EFER", "0xd01", "1")),
        "svme-not-set",
        "hypervisor-loses-svme",
    ),
    (
        "write of another register refused",
        BASE,
        all_of(svme_lost, bare_metal, log("unchecked MSR access error: WRMSR to 0xc00000801")),
        "svme-not-set",
        None,
    ),
    ("guest wrong on bare metal", BASE, all_of(guest_wrong, bare_metal), "guest-failed", None),
    ("svme lost, raw CPUID unread", BASE, all_of(svme_lost, without_cpuid), "svme-not-set", "hypervisor-loses-svme"),
    (
        "svme lost, raw CPUID and flags unread",
        BASE,
        all_of(svme_lost, without_cpuid, without_flags("0", "1")),
        "svme-not-set",
        None,
    ),
    (
        "svme lost, /proc/cpuinfo without cpu0",
        BASE,
        all_of(svme_lost, without_cpuid, lambda e: e["cpus"]["cpuinfo"].pop("0")),
        "svme-not-set",
        "hypervisor-loses-svme",
    ),
    (
        "svme lost, flags of cpu0 unread",
        BASE,
        all_of(svme_lost, without_cpuid, without_flags("0")),
        "svme-not-set",
        "hypervisor-loses-svme",
    ),
)

CPU: Near = (
    (
        "locked, SVML on cpu1 alone",
        BASE,
        all_of(firmware("0x18", "0x1"), leaf("0x8000000a", 3, "0x5", "1")),
        "firmware-disabled",
        "svm-disabled-locked-key-possible",
    ),
    (
        "locked, VM_CR unread on cpu0",
        BASE,
        all_of(firmware("0x18"), register("before", "VM_CR", UNKNOWN, "0")),
        "firmware-disabled",
        "svm-disabled-locked-key-possible",
    ),
    (
        "locked on cpu1 alone",
        BASE,
        all_of(firmware("0x18"), register("before", "VM_CR", "0x10", "0")),
        "firmware-disabled",
        "svm-disabled-locked-key-possible",
    ),
    (
        "SVMDIS, no flag",
        BASE,
        all_of(firmware("0x18"), no_flag),
        "firmware-disabled",
        "svm-disabled-locked-key-possible",
    ),
    (
        "SVMDIS, no flag on cpu0",
        BASE,
        all_of(firmware("0x18"), lambda e: e["cpus"]["cpuinfo"]["0"]["flags"].remove("svm")),
        "firmware-disabled",
        "svm-disabled-locked-key-possible",
    ),
    (
        "SVMDIS, no flag, flags of cpu1 unread",
        BASE,
        all_of(firmware("0x18"), no_flag, without_flags("1")),
        "firmware-disabled",
        "svm-disabled-locked-key-possible",
    ),
    (
        "SVMDIS, no flag, SVM bit unread on cpu1",
        BASE,
        all_of(firmware("0x18"), no_flag, leaf_unread("0x80000001", "1")),
        "firmware-disabled",
        "svm-disabled-locked-key-possible",
    ),
    (
        "paravisor of another hypervisor",
        BASE,
        all_of(lacks_svm, under("KVMKVMKVM"), log("Memory Encryption Features active: AMD SEV")),
        "sev-guest",
        "confidential-vm",
    ),
    (
        "Hyper-V, CPUID shows SEV",
        BASE,
        all_of(
            lacks_svm,
            under("Microsoft Hv"),
            log("Memory Encryption Features active: AMD SEV"),
            leaf("0x80000000", 0, "0x8000001f"),
            leaf("0x8000001f", 0, "0x2"),
        ),
        "sev-guest",
        "confidential-vm",
    ),
    (
        "Xen dom0, features unknown",
        BASE,
        all_of(lacks_svm, under("XenVMMXenVMM"), surroundings(hypervisor_type="xen")),
        "cpu-lacks-svm",
        "xen-guest-without-nested-svm",
    ),
    (
        "Xen, no dom0 by features",
        BASE,
        all_of(lacks_svm, under("XenVMMXenVMM"), surroundings(hypervisor_type="xen", xen_features="00002705")),
        "cpu-lacks-svm",
        "xen-guest-without-nested-svm",
    ),
    (
        "features of dom0 without Xen",
        BASE,
        all_of(lacks_svm, under("KVMKVMKVM"), surroundings(xen_features="00002f05")),
        "cpu-lacks-svm",
        "kvm-guest-without-nested-svm",
    ),
    (
        "Xen by sysfs alone",
        BASE,
        all_of(lacks_svm, under("KVMKVMKVM"), surroundings(hypervisor_type="xen")),
        "cpu-lacks-svm",
        "xen-guest-without-nested-svm",
    ),
    (
        "no PGE without Xen",
        BASE,
        all_of(lacks_svm, under("KVMKVMKVM"), leaf("0x1", 3, "0x1789d3f5")),
        "cpu-lacks-svm",
        "kvm-guest-without-nested-svm",
    ),
    (
        "Xen, EDX unread",
        BASE,
        all_of(lacks_svm, surroundings(hypervisor_type="xen"), leaf_unread("0x1", "0", "1"), without_flags("0", "1")),
        "cpu-lacks-svm",
        "xen-guest-without-nested-svm",
    ),
    (
        "WSL by lower case",
        BASE,
        all_of(lacks_svm, under("Microsoft Hv"), release("5.15.0-wsl2")),
        "cpu-lacks-svm",
        "wsl2-without-nested-svm",
    ),
    (
        "Azure's kernel under KVM",
        BASE,
        all_of(lacks_svm, under("KVMKVMKVM"), release("6.8.0-1019-azure")),
        "cpu-lacks-svm",
        "kvm-guest-without-nested-svm",
    ),
    *(
        (
            f"cloud {name}",
            BASE,
            all_of(lacks_svm, under("KVMKVMKVM"), surroundings(vendor=name, product="x")),
            "cpu-lacks-svm",
            "cloud-instance-without-nested-svm",
        )
        for name in "Google OpenStack Alibaba Tencent DigitalOcean Hetzner Vultr Oracle OVH".split()
    ),
    *(
        (
            f"cloud kernel {name}",
            BASE,
            all_of(lacks_svm, under("KVMKVMKVM"), release(f"6.1.0-28-{name}")),
            "cpu-lacks-svm",
            "cloud-instance-without-nested-svm",
        )
        for name in "aws gcp gke oracle cloud".split()
    ),
    (
        "cloud's kernel on bare metal",
        BASE,
        all_of(lacks_svm, bare_metal, release("6.8.0-1019-aws")),
        "cpu-lacks-svm",
        "svm-filtered-on-bare-metal",
    ),
    (
        "cloud by product, vendor unknown",
        BASE,
        all_of(lacks_svm, under("KVMKVMKVM"), surroundings(vendor=UNKNOWN, product="Google Compute Engine")),
        "cpu-lacks-svm",
        "cloud-instance-without-nested-svm",
    ),
    (
        "VM by /proc/cpuinfo alone",
        BASE,
        all_of(lacks_svm, leaf_unread("0x1", "0", "1"), leaf_unread("0x40000000", "0", "1")),
        "cpu-lacks-svm",
        "vm-without-nested-svm",
    ),
    (
        "unknown whether a VM",
        BASE,
        all_of(lacks_svm, leaf_unread("0x1", "0", "1"), without_flags("0", "1")),
        "cpu-lacks-svm",
        None,
    ),
    (
        "unknown whether a VM, old family",
        BASE,
        all_of(lacks_svm, leaf_unread("0x1", "0", "1"), without_flags("0", "1"), cpu_family("15")),
        "cpu-lacks-svm",
        None,
    ),
    (
        "family unread",
        BASE,
        all_of(lacks_svm, bare_metal, leaf_unread("0x1", "0", "1")),
        "cpu-lacks-svm",
        "svm-filtered-on-bare-metal",
    ),
    (
        "family unread on cpu0",
        BASE,
        all_of(lacks_svm, bare_metal, leaf_unread("0x1", "0")),
        "cpu-lacks-svm",
        "svm-filtered-on-bare-metal",
    ),
    (
        "family 0x10",
        BASE,
        all_of(lacks_svm, bare_metal, leaf("0x1", 0, "0x100f42")),
        "cpu-lacks-svm",
        "svm-filtered-on-bare-metal",
    ),
    ("family 6", BASE, all_of(lacks_svm, bare_metal, leaf("0x1", 0, "0x6a0")), "cpu-lacks-svm", "cpu-too-old"),
    (
        "family unknown",
        BASE,
        all_of(
            lacks_svm,
            bare_metal,
            leaf_unread("0x1", "0", "1"),
            cpu_family(None),
        ),
        "cpu-lacks-svm",
        None,
    ),
    (
        "family no number",
        BASE,
        all_of(
            lacks_svm,
            bare_metal,
            leaf_unread("0x1", "0", "1"),
            cpu_family("x"),
        ),
        "cpu-lacks-svm",
        None,
    ),
)

_NO_SVM = log("kvm_amd: SVM not supported by CPU 0", "kvm_amd: SVM not supported by CPU 1", "kvm: inadequate fpu")
_UNNAMED = leaf_unread("0x40000000", "0", "1")

# The last line of the kernel that finds no SVM is quoted with each of these causes.
LOGGED: Near = tuple(
    (f"{number} {cause}, logged twice", base, all_of(change, _NO_SVM), reason, cause)
    for number, (cause, base, change, reason, _) in enumerate(CAUSED)
    if reason == "cpu-lacks-svm"
)

# A hypervisor that CPUID does not name is quoted from /proc/cpuinfo.
UNNAMED: Near = (
    (
        "Xen dom0, hypervisor unnamed",
        BASE,
        all_of(lacks_svm, _UNNAMED, surroundings(hypervisor_type="xen", xen_features="00002f05")),
        "cpu-lacks-svm",
        "xen-dom0",
    ),
    (
        "Xen PV domain, hypervisor unnamed",
        BASE,
        all_of(lacks_svm, _UNNAMED, surroundings(hypervisor_type="xen"), leaf("0x1", 3, "0x1789d3f5")),
        "cpu-lacks-svm",
        "xen-pv-domain",
    ),
    (
        "Xen guest, hypervisor unnamed",
        BASE,
        all_of(lacks_svm, _UNNAMED, surroundings(hypervisor_type="xen")),
        "cpu-lacks-svm",
        "xen-guest-without-nested-svm",
    ),
    (
        "WSL, hypervisor unnamed",
        BASE,
        all_of(lacks_svm, _UNNAMED, release("5.15.0-WSL2")),
        "cpu-lacks-svm",
        "wsl2-without-nested-svm",
    ),
    (
        "cloud, hypervisor unnamed",
        BASE,
        all_of(lacks_svm, _UNNAMED, release("6.1.0-28-aws")),
        "cpu-lacks-svm",
        "cloud-instance-without-nested-svm",
    ),
)

MODULES: Near = (
    (
        "container, kvm_amd unknown",
        BASE,
        all_of(no_modules, unread("ENOENT"), DOCKER),
        "msr-unreadable",
        "container-without-msr",
    ),
    ("folder of modules exists", BASE, all_of(no_kvm_amd, module_files()), "kvm-amd-not-loaded", None),
    (
        "folder of modules unknown",
        BASE,
        all_of(no_kvm_amd, module_files(folder=None, index=None)),
        "kvm-amd-not-loaded",
        None,
    ),
    (
        "index and kvm_amd unknown",
        BASE,
        all_of(no_kvm_amd, module_files(index=None, kvm_amd=None)),
        "kvm-amd-not-loaded",
        None,
    ),
    ("index unknown", BASE, all_of(no_kvm_amd, module_files(index=None)), "kvm-amd-not-loaded", None),
    (
        "kvm_amd not in the folder",
        BASE,
        all_of(no_kvm_amd, module_files(kvm_amd=None)),
        "kvm-amd-not-loaded",
        "module-not-installed",
    ),
    (
        "only msr not found",
        BASE,
        all_of(no_kvm_amd, loads(("msr", 1, NOT_FOUND.format("msr")))),
        "kvm-amd-not-loaded",
        None,
    ),
    (
        "msr and cpuid not found",
        BASE,
        all_of(no_kvm_amd, loads(("msr", 1, NOT_FOUND.format("msr")), ("cpuid", 1, NOT_FOUND.format("cpuid")))),
        "kvm-amd-not-loaded",
        "modules-gone",
    ),
    (
        "msr and cpuid not found, kvm_amd refused",
        BASE,
        all_of(
            no_kvm_amd,
            loads(
                ("msr", 1, NOT_FOUND.format("msr")), ("cpuid", 1, NOT_FOUND.format("cpuid")), ("kvm_amd", 1, NO_OPTION)
            ),
        ),
        "kvm-amd-load-failed",
        None,
    ),
    ("modprobe killed", BASE, attempt("killed", None), "kvm-amd-not-loaded", None),
    ("no modprobe, with a status", BASE, attempt("modprobe: there is no modprobe", 2), "kvm-amd-load-failed", None),
    (
        "no loadable modules, with a status",
        BASE,
        attempt("modprobe: no loadable modules", 2),
        "kvm-amd-load-failed",
        None,
    ),
    ("did not end, with a status", BASE, attempt("modprobe: did not end", 2), "kvm-amd-load-failed", None),
    (
        "permission denied to a user",
        BASE,
        all_of(attempt("Permission denied"), USER),
        "kvm-amd-not-loaded",
        "load-needs-root",
    ),
    ("user, another answer", BASE, all_of(attempt(NO_OPTION), USER), "kvm-amd-not-loaded", None),
    (
        "user, modprobe not run",
        BASE,
        all_of(attempt("modprobe: Permission denied", None), USER),
        "kvm-amd-not-loaded",
        None,
    ),
    (
        "user, modprobe succeeded",
        BASE,
        all_of(attempt("modprobe: Operation not permitted", 0), USER),
        "kvm-amd-not-loaded",
        "install-line",
    ),
    (
        "module_blacklist of another module",
        BASE,
        all_of(no_kvm_amd, command_line("module_blacklist=nouveau,kvm_intel")),
        "kvm-amd-not-loaded",
        None,
    ),
    (
        "module_blacklist of kvm",
        BASE,
        all_of(no_kvm_amd, command_line("module_blacklist=kvm")),
        "kvm-amd-not-loaded",
        "module-blacklisted",
    ),
    (
        "module_blacklist twice",
        BASE,
        all_of(no_kvm_amd, command_line("module_blacklist=kvm", "module_blacklist=kvm_amd")),
        "kvm-amd-not-loaded",
        "module-blacklisted",
    ),
    (
        "module_blacklist without a value",
        BASE,
        all_of(no_kvm_amd, command_line("module_blacklist", "quiet")),
        "kvm-amd-not-loaded",
        None,
    ),
    (
        "command line in the log",
        BASE,
        all_of(
            no_kvm_amd,
            lambda e: e.pop("command_line", None),
            log("Command line: quiet", "Command line: quiet", "Kernel command line: module_blacklist=kvm_amd"),
        ),
        "kvm-amd-not-loaded",
        "module-blacklisted",
    ),
    (
        "install line, loaded otherwise",
        BASE,
        all_of(refused(), module_files(lines=[line("install kvm_amd /bin/true")])),
        "kvm-amd-load-failed",
        None,
    ),
    (
        "install line, nothing tried",
        BASE,
        all_of(no_kvm_amd, module_files(lines=[line("install kvm-amd /bin/true")])),
        "kvm-amd-not-loaded",
        "install-line",
    ),
    (
        "install line that loads, nothing tried",
        BASE,
        all_of(no_kvm_amd, module_files(lines=[line("install kvm_amd /sbin/modprobe -i kvm_amd")])),
        "kvm-amd-not-loaded",
        None,
    ),
    (
        "install line of another module",
        BASE,
        all_of(no_kvm_amd, module_files(lines=[line("install kvm_intel /bin/true")])),
        "kvm-amd-not-loaded",
        None,
    ),
    (
        "would run an install line",
        BASE,
        all_of(no_kvm_amd, module_files(would_run={"status": 0, "output": "insmod x\ninstall /bin/false"})),
        "kvm-amd-not-loaded",
        "install-line",
    ),
    (
        "would run an install line that loads",
        BASE,
        all_of(no_kvm_amd, module_files(would_run={"status": 0, "output": "install /sbin/modprobe -i kvm_amd"})),
        "kvm-amd-not-loaded",
        None,
    ),
    (
        "would run an install line, succeeded in vain",
        BASE,
        all_of(attempt("", 0), module_files(would_run={"status": 0, "output": "insmod x\ninstall /bin/false"})),
        "kvm-amd-not-loaded",
        "install-line",
    ),
    (
        "would run insmod",
        BASE,
        all_of(no_kvm_amd, module_files(would_run={"status": 0, "output": "insmod /lib/modules/x/kvm-amd.ko"})),
        "kvm-amd-not-loaded",
        None,
    ),
    (
        "unknown symbol, kvm loaded",
        BASE,
        all_of(attempt("Unknown symbol in module"), module("kvm", refcount=1)),
        "kvm-amd-load-failed",
        "module-mismatch",
    ),
    (
        "two install lines",
        BASE,
        all_of(
            attempt("", 0),
            module_files(lines=[line("install kvm /bin/true"), {**line("install kvm_amd /bin/false"), "number": 7}]),
        ),
        "kvm-amd-not-loaded",
        "install-line",
    ),
    (
        "mismatch in the log, nothing tried",
        BASE,
        all_of(no_kvm_amd, log("kvm_amd: disagrees about version of symbol kvm_init")),
        "kvm-amd-not-loaded",
        "module-mismatch",
    ),
    (
        "mismatch in the log, modprobe succeeded",
        BASE,
        all_of(attempt("", 0), log("kvm_amd: disagrees about version of symbol kvm_init")),
        "kvm-amd-not-loaded",
        "install-line",
    ),
    (
        "mismatch in the log, kvm_amd loaded",
        BASE,
        all_of(held_at_create, log("kvm_amd: disagrees about version of symbol kvm_init")),
        "svm-held-by-another-owner",
        "svm-owner-not-found",
    ),
    (
        "four lines of a mismatch",
        BASE,
        refused(*(f"kvm_amd: Unknown symbol s{n} (err -2)" for n in range(4)), answer="Invalid module format"),
        "kvm-amd-load-failed",
        "module-mismatch",
    ),
    (
        "mismatch, kvm live and in use",
        BASE,
        all_of(attempt("Exec format error"), module("kvm", refcount=1)),
        "kvm-amd-load-failed",
        "module-mismatch",
    ),
    (
        "mismatch and a parameter",
        BASE,
        all_of(
            refused(
                "kvm_amd: disagrees about version of symbol kvm_init",
                "kvm_amd: `x' invalid for parameter `npt'",
                answer="Unknown symbol in module",
            ),
            module("kvm", refcount=1),
        ),
        "kvm-amd-load-failed",
        "module-mismatch",
    ),
    (
        "mismatch in the log, modprobe killed",
        BASE,
        all_of(attempt("killed", None), log("kvm_amd: disagrees about version of symbol kvm_init")),
        "kvm-amd-not-loaded",
        None,
    ),
    (
        "mismatch, kvm built in",
        BASE,
        all_of(attempt("Exec format error"), module("kvm", state="builtin", refcount=0)),
        "kvm-amd-load-failed",
        "module-mismatch",
    ),
    (
        "unknown parameter",
        BASE,
        refused("kvm_amd: Unknown parameter `nestd'", answer="Unknown symbol in module, or unknown parameter"),
        "kvm-amd-load-failed",
        "install-line",
    ),
    (
        "unknown parameter, kvm loaded",
        BASE,
        all_of(refused("kvm_amd: Unknown parameter `nestd'", answer="Invalid argument"), module("kvm", refcount=1)),
        "kvm-amd-load-failed",
        "parameter-invalid",
    ),
    (
        "parameter on the command line",
        BASE,
        all_of(
            refused("kvm_amd: `x' invalid for parameter `npt'", answer="Invalid argument"),
            command_line("kvm_amd.npt=x"),
        ),
        "kvm-amd-load-failed",
        "parameter-invalid",
    ),
    (
        "two parameters invalid",
        BASE,
        refused(
            "kvm: `x' invalid for parameter `a'", "kvm_amd: `y' too large for parameter `b'", answer="Invalid argument"
        ),
        "kvm-amd-load-failed",
        "parameter-invalid",
    ),
    (
        "options of a longer name",
        BASE,
        all_of(
            refused("kvm_amd: `x' invalid for parameter `sev'", answer="Invalid argument"),
            module_files(lines=[line("options kvm_amd sev_es=x")]),
        ),
        "kvm-amd-load-failed",
        "parameter-invalid",
    ),
    (
        "parameter invalid, kvm_amd loaded",
        BASE,
        all_of(held_at_create, log("kvm_amd: `x' invalid for parameter `npt'")),
        "svm-held-by-another-owner",
        "svm-owner-not-found",
    ),
    (
        "unsigned, nothing locked",
        BASE,
        all_of(attempt(NOT_PERMITTED), rights()),
        "kvm-amd-load-failed",
        "load-not-permitted",
    ),
    ("unsigned by the log", BASE, refused(UNSIGNED, answer=NOT_PERMITTED), "kvm-amd-load-failed", "module-unsigned"),
    (
        "unsigned by lockdown",
        BASE,
        all_of(attempt(NOT_PERMITTED), lockdown("confidentiality")),
        "kvm-amd-load-failed",
        "module-unsigned",
    ),
    (
        "unsigned, lockdown none",
        BASE,
        all_of(attempt(NOT_PERMITTED), lockdown("none")),
        "kvm-amd-load-failed",
        "load-not-permitted",
    ),
    (
        "unsigned, user",
        BASE,
        all_of(refused(UNSIGNED, answer=NOT_PERMITTED), lockdown("integrity"), USER),
        "kvm-amd-not-loaded",
        "load-needs-root",
    ),
    (
        "unsigned at boot",
        BASE,
        all_of(no_kvm_amd, log(UNSIGNED), lockdown("integrity")),
        "kvm-amd-not-loaded",
        "module-unsigned",
    ),
    (
        "unsigned at boot, lockdown none",
        BASE,
        all_of(no_kvm_amd, log(UNSIGNED), lockdown("none")),
        "kvm-amd-not-loaded",
        None,
    ),
    ("lockdown at boot, nothing logged", BASE, all_of(no_kvm_amd, lockdown("integrity")), "kvm-amd-not-loaded", None),
    *(
        (f"key: {text}", BASE, attempt(text), "kvm-amd-load-failed", "module-unsigned")
        for text in ("Required key not available", "Key has expired", "Key has been revoked")
    ),
    (
        "unsigned three times",
        BASE,
        refused(
            UNSIGNED,
            "Lockdown: modprobe: unsigned module loading is restricted",
            UNSIGNED + " twice",
            answer="Key was rejected by service",
        ),
        "kvm-amd-load-failed",
        "module-unsigned",
    ),
    (
        "loading disabled, kvm_amd loaded",
        BASE,
        all_of(unread("EPERM"), module_files(loading_disabled="1")),
        "msr-unreadable",
        "registers-need-capability",
    ),
    (
        "loading disabled, unknown",
        BASE,
        all_of(attempt(NOT_PERMITTED), module_files(loading_disabled=None)),
        "kvm-amd-load-failed",
        "load-not-permitted",
    ),
    (
        "loading disabled, nothing tried",
        BASE,
        all_of(no_kvm_amd, module_files(loading_disabled="1")),
        "kvm-amd-not-loaded",
        "module-loading-disabled",
    ),
    (
        "not permitted with the capability",
        BASE,
        all_of(attempt(NOT_PERMITTED), rights()),
        "kvm-amd-load-failed",
        "load-not-permitted",
    ),
    (
        "not permitted, capabilities unknown",
        BASE,
        all_of(attempt(NOT_PERMITTED), rights(capabilities=UNKNOWN)),
        "kvm-amd-load-failed",
        "load-not-permitted",
    ),
    (
        "not permitted, only CAP_SYS_RAWIO",
        BASE,
        all_of(attempt(NOT_PERMITTED), rights(capabilities="20000")),
        "kvm-amd-load-failed",
        "load-not-permitted",
    ),
    (
        "not permitted, only CAP_SYS_MODULE",
        BASE,
        all_of(attempt(NOT_PERMITTED), rights(capabilities="10000")),
        "kvm-amd-load-failed",
        "load-not-permitted",
    ),
    (
        "blacklist line, tried in vain",
        BASE,
        all_of(attempt(NO_OPTION), module_files(lines=[line("blacklist kvm_amd")])),
        "kvm-amd-load-failed",
        None,
    ),
    (
        "blacklist line of kvm_intel",
        BASE,
        all_of(no_kvm_amd, module_files(lines=[line("blacklist kvm_intel")])),
        "kvm-amd-not-loaded",
        None,
    ),
    (
        "blacklist in force from somewhere",
        BASE,
        all_of(no_kvm_amd, module_files(in_force=["blacklist kvm_amd"])),
        "kvm-amd-not-loaded",
        "blacklist-line",
    ),
    (
        "blacklist of another in force",
        BASE,
        all_of(no_kvm_amd, module_files(in_force=["blacklist nouveau"])),
        "kvm-amd-not-loaded",
        None,
    ),
    (
        "modprobe.blacklist of another",
        BASE,
        all_of(no_kvm_amd, command_line("modprobe.blacklist=nouveau")),
        "kvm-amd-not-loaded",
        None,
    ),
    (
        "modprobe.blacklist twice",
        BASE,
        all_of(no_kvm_amd, command_line("modprobe.blacklist=kvm_amd", "modprobe.blacklist=kvm-amd")),
        "kvm-amd-not-loaded",
        "blacklist-line",
    ),
    (
        "modprobe.blacklist in force",
        BASE,
        all_of(no_kvm_amd, command_line("modprobe.blacklist=kvm-amd"), module_files(in_force=["blacklist kvm_amd"])),
        "kvm-amd-not-loaded",
        "blacklist-line",
    ),
    ("log readable, kvm unexplained", BASE, refused("kvm: something new"), "kvm-amd-load-failed", None),
    (
        "log unreadable, another answer",
        BASE,
        all_of(attempt("Some error"), lambda e: e.update(log={"error": "EPERM", "lines": []})),
        "kvm-amd-load-failed",
        None,
    ),
)

VENDOR: Near = (
    (
        "other vendor, kvm_amd loaded",
        BASE,
        all_of(held_at_create, module("kvm_pvm"), log(OTHER_VENDOR)),
        "svm-held-by-another-owner",
        "svm-owner-not-found",
    ),
    (
        "other vendor unnamed and gone",
        BASE,
        refused("kvm: already loaded the other module"),
        "kvm-amd-load-failed",
        "other-vendor-module",
    ),
    (
        "two other vendors unnamed",
        BASE,
        all_of(refused("kvm: already loaded the other module"), module("kvm_intel"), module("kvm_pvm")),
        "kvm-amd-load-failed",
        "other-vendor-module",
    ),
    (
        "other vendor, kvm_amd refused otherwise",
        BASE,
        all_of(refused("kvm: inadequate fpu"), module("kvm_pvm")),
        "kvm-amd-load-failed",
        "fpu-inadequate",
    ),
    (
        "other vendor answers, nothing tried",
        BASE,
        all_of(no_kvm_amd, module("kvm_pvm"), node(registered=True)),
        "kvm-amd-not-loaded",
        "other-vendor-module",
    ),
    (
        "other vendor, not registered, nothing tried",
        BASE,
        all_of(no_kvm_amd, module("kvm_pvm")),
        "kvm-amd-not-loaded",
        None,
    ),
    (
        "other vendor used by its holders",
        BASE,
        all_of(refused(OTHER_VENDOR), module("kvm_pvm", refcount=1, holders=["x"])),
        "kvm-amd-load-failed",
        "other-vendor-module",
    ),
    (
        "other vendor with one VM",
        BASE,
        all_of(refused(OTHER_VENDOR), module("kvm_pvm", refcount=1)),
        "kvm-amd-load-failed",
        "other-vendor-module",
    ),
    (
        "other vendor built in",
        BASE,
        all_of(refused(OTHER_VENDOR), module("kvm_pvm", state="builtin", refcount=None)),
        "kvm-amd-load-failed",
        "other-vendor-module",
    ),
    (
        "other vendor by kvm's holders",
        BASE,
        all_of(refused("kvm: already loaded the other module"), module("kvm", holders=["other_hv"])),
        "kvm-amd-load-failed",
        "other-vendor-module",
    ),
)

KERNEL: Near = (
    (
        "clearcpuid, flag there",
        BASE,
        refused("Clearing CPUID bits: svm", "has_svm: svm not available"),
        "kvm-amd-load-failed",
        None,
    ),
    (
        "clearcpuid=6:2",
        BASE,
        all_of(refused("kvm_amd: SVM not supported by CPU 0"), command_line("clearcpuid=nx,6:2"), no_flag),
        "kvm-amd-load-failed",
        "svm-cleared-by-clearcpuid",
    ),
    (
        "clearcpuid after another",
        BASE,
        all_of(
            refused("kvm_amd: SVM not supported by CPU 0"), command_line("clearcpuid=nx", "clearcpuid=svm"), no_flag
        ),
        "kvm-amd-load-failed",
        "svm-cleared-by-clearcpuid",
    ),
    (
        "clearcpuid of another",
        BASE,
        all_of(refused("kvm_amd: SVM not supported by CPU 0"), command_line("clearcpuid=nx"), no_flag),
        "kvm-amd-load-failed",
        "svm-hidden-by-kernel",
    ),
    (
        "clearcpuid, flags of cpu1 unread",
        BASE,
        all_of(refused("Clearing CPUID bits: svm"), no_flag, without_flags("1")),
        "kvm-amd-load-failed",
        None,
    ),
    (
        "clearcpuid, nothing refused",
        BASE,
        all_of(no_kvm_amd, command_line("clearcpuid=svm", "clearcpuid=194"), no_flag),
        "kvm-amd-not-loaded",
        "svm-cleared-by-clearcpuid",
    ),
    (
        "clearcpuid, SVM bit unread",
        BASE,
        all_of(
            refused("Clearing CPUID bits: 6:2", "kvm_amd: SVM not supported by CPU 0"),
            no_flag,
            leaf_unread("0x80000001", "0", "1"),
        ),
        "kvm-amd-load-failed",
        "svm-cleared-by-clearcpuid",
    ),
    (
        "hidden since boot, flag there",
        BASE,
        refused("SVM disabled (by BIOS) in MSR_VM_CR", "kvm_amd: SVM not supported by CPU 1"),
        "kvm-amd-load-failed",
        None,
    ),
    (
        "hidden since boot, VM_CR unread on cpu1",
        BASE,
        all_of(
            refused("SVM disabled (by BIOS) in MSR_VM_CR", "kvm_amd: SVM not supported by CPU 1"),
            no_flag,
            register("before", "VM_CR", {"error": "EIO"}, "1"),
        ),
        "kvm-amd-load-failed",
        "svm-hidden-by-kernel",
    ),
    (
        "hidden, SVM bit unread on cpu1",
        BASE,
        all_of(refused("kvm_amd: SVM not supported by CPU 0"), no_flag, leaf_unread("0x80000001", "1")),
        "kvm-amd-load-failed",
        None,
    ),
    (
        "NX off by noexec",
        BASE,
        all_of(refused("kvm_amd: NX (Execute Disable) not supported"), command_line("noexec=off")),
        "kvm-amd-load-failed",
        "no-nx",
    ),
    (
        "NX off by noexec32",
        BASE,
        all_of(refused("kvm_amd: NX (Execute Disable) not supported"), command_line("noexec32=off")),
        "kvm-amd-load-failed",
        "no-nx",
    ),
    (
        "NX cleared by number",
        BASE,
        all_of(refused("kvm_amd: NX (Execute Disable) not supported"), command_line("clearcpuid=52")),
        "kvm-amd-load-failed",
        "no-nx",
    ),
    (
        "NX cleared by word",
        BASE,
        all_of(refused("Clearing CPUID bits: 1:20", "kvm_amd: NX (Execute Disable) not supported")),
        "kvm-amd-load-failed",
        "no-nx",
    ),
    ("not amd, AMD", BASE, refused("has_svm: not amd"), "kvm-amd-load-failed", None),
    (
        "FPU off",
        BASE,
        all_of(refused("kvm: inadequate fpu"), command_line("nofxsr", "no387", "clearcpuid=fxsr"), bare_metal),
        "kvm-amd-load-failed",
        "fpu-inadequate",
    ),
    (
        "FPU cleared",
        BASE,
        all_of(refused("kvm: inadequate fpu"), command_line("clearcpuid=fpu")),
        "kvm-amd-load-failed",
        "fpu-inadequate",
    ),
    (
        "two refusals",
        BASE,
        refused("kvm_amd: NX (Execute Disable) not supported", "kvm: inadequate fpu"),
        "kvm-amd-load-failed",
        "fpu-inadequate",
    ),
    (
        "five levels on bare metal",
        BASE,
        all_of(refused("SVM: KVM doesn't yet support 5-level paging on AMD SVM"), bare_metal),
        "kvm-amd-load-failed",
        "five-level-paging",
    ),
    (
        "held at load, EFER unread on cpu1",
        AT_LOAD,
        all_of(
            refused("kvm: enabling virtualization on CPU1 failed", answer="Device or resource busy"),
            register("before", "EFER", {"error": "EIO"}, "1"),
            register("before", "EFER", "0xd01", "0"),
        ),
        "kvm-amd-load-failed",
        "svm-held-at-load",
    ),
    (
        "held at boot, built in",
        AT_LOAD,
        all_of(
            built_in_refused("kvm: enabling virtualization on CPU1 failed"),
            at_load("Y"),
            everywhere("EFER", "0xd01"),
        ),
        "kvm-device-missing",
        "built-in-kvm-amd-refused",
    ),
    ("held, another answer", BASE, refused("kvm: enabling virtualization on CPU1 failed"), "kvm-amd-load-failed", None),
    (
        "held at boot, at load",
        AT_LOAD,
        all_of(
            no_kvm_amd,
            module("kvm", parameters={"enable_virt_at_load": "Y"}),
            log("kvm: enabling virtualization on CPU1 failed"),
            lambda e: set_everywhere(e, "EFER", "0xd01"),
        ),
        "kvm-amd-load-failed",
        "svm-held-at-load",
    ),
    (
        "held at boot, not at load",
        BASE,
        all_of(no_kvm_amd, log("kvm: enabling virtualization on CPU1 failed")),
        "kvm-amd-not-loaded",
        None,
    ),
)

OWNER: Near = (
    (
        "vboxdrv built in",
        BASE,
        all_of(held_at_create, vbox(state="builtin", refcount=None)),
        "svm-held-by-another-owner",
        "svm-owner-not-found",
    ),
    ("vboxdrv, nothing refused", BASE, all_of(no_kvm_amd, vbox(refcount=1)), "kvm-amd-not-loaded", None),
    (
        "vboxdrv with VMs, SVME 0, EBUSY",
        BASE,
        all_of(lambda e: ioctl("KVM_CREATE_VM", "EBUSY")(e), vbox(refcount=1)),
        "create-vm-failed",
        "virtualbox-vms-running",
    ),
    (
        "vboxdrv with VMs, ENOMEM",
        BASE,
        all_of(ioctl("KVM_CREATE_VM", "EINVAL"), vbox(refcount=1)),
        "create-vm-failed",
        None,
    ),
    ("vboxdrv without VMs, EBUSY", BASE, all_of(ioctl("KVM_CREATE_VM", "EBUSY"), vbox()), "create-vm-failed", None),
    (
        "vboxdrv with VMs, held at load",
        AT_LOAD,
        all_of(
            refused("kvm: enabling virtualization on CPU1 failed", answer="Input/output error"),
            lambda e: set_everywhere(e, "EFER", "0xd01"),
            vbox(refcount=1),
        ),
        "kvm-amd-load-failed",
        "virtualbox-vms-running",
    ),
    (
        "vboxdrv of unknown version",
        AT_LOAD,
        all_of(held_at_load, vbox(refcount=2, version=None), at_load_y),
        "svm-held-by-another-owner",
        "virtualbox-vms-running",
    ),
    (
        "vmmon with VMs at load",
        AT_LOAD,
        all_of(held_at_load, module("vmmon", refcount=2), at_load_y),
        "svm-held-by-another-owner",
        "vmware-vms-running",
    ),
    (
        "vmmon without VMs at load",
        AT_LOAD,
        all_of(held_at_load, module("vmmon"), at_load_y),
        "svm-held-by-another-owner",
        "vmware-loaded",
    ),
    (
        "other boot loader",
        BASE,
        all_of(held_at_create, surroundings(bootloader_type="114")),
        "svm-held-by-another-owner",
        "svm-owner-not-found",
    ),
    (
        "boot loader is no number",
        BASE,
        all_of(held_at_create, surroundings(bootloader_type="kexec")),
        "svm-held-by-another-owner",
        "svm-owner-not-found",
    ),
    (
        "boot loader unknown",
        BASE,
        all_of(held_at_create, surroundings(bootloader_type=UNKNOWN)),
        "svm-held-by-another-owner",
        "svm-owner-not-found",
    ),
    (
        "kexec of type 223",
        BASE,
        all_of(held_at_create, surroundings(bootloader_type="223")),
        "svm-held-by-another-owner",
        "svm-left-on-before-kexec",
    ),
    ("held, /sys/module unread", BASE, all_of(held_at_create, no_modules), "svm-held-by-another-owner", None),
    (
        "held on bare metal",
        BASE,
        all_of(held_at_create, bare_metal),
        "svm-held-by-another-owner",
        "svm-owner-not-found",
    ),
    (
        "kvm without users",
        AT_LOAD,
        all_of(svm_through_kvm, lambda e: e["modules"]["kvm"].update(refcount=1)),
        "svme-owner-unknown",
        None,
    ),
    (
        "kvm built in",
        AT_LOAD,
        all_of(svm_through_kvm, lambda e: e["modules"]["kvm"].update(state="builtin", refcount=None, holders=[])),
        "svme-owner-unknown",
        None,
    ),
    (
        "kvm with users, nothing set",
        BASE,
        lambda e: (e["modules"]["kvm"].update(refcount=9), ioctl("KVM_CREATE_VM", "EINVAL")(e))[0],
        "create-vm-failed",
        None,
    ),
)


NEAR = (*ACCESS, *NODE, *REGISTERS, *HYPERVISOR, *CPU, *LOGGED, *UNNAMED, *MODULES, *VENDOR, *KERNEL, *OWNER)
