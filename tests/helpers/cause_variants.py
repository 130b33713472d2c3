"""Evidence of each cause: recorded evidence, changed as the cause would have it.

The log lines are those of the kernel's own sources, in old and new wording.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.helpers.evidence_changes import log, no_flag, under
from tests.helpers.variants import (
    Evidence,
    firmware_disabled,
    held_at_create,
    held_at_load,
    lacks_svm,
    no_device,
    no_kvm_amd,
    no_vm,
    set_everywhere,
    set_leaf,
)

Change = Callable[[Evidence], None]

BASE = "matrix/bookworm/epyc"  # 6.1: SVME follows the VM
AT_LOAD = "matrix/trixie/epyc"  # 6.12: SVME follows kvm_amd
NO_OPTION = "Operation not supported"
NOT_PERMITTED = "Operation not permitted"


def all_of(*changes: Change) -> Change:
    """The changes, one after the other."""

    def change(evidence: Evidence) -> None:
        for each in changes:
            each(evidence)

    return change


def attempt(answer: str, status: int | None = 1) -> Change:
    """kvm_amd is absent, and modprobe gave this answer when it was to be loaded."""

    def change(evidence: Evidence) -> None:
        no_kvm_amd(evidence)
        insert = f"modprobe: ERROR: could not insert 'kvm_amd': {answer}"
        output = answer if "modprobe" in answer or status != 1 else insert
        evidence["loads"].append({"module": "kvm_amd", "status": status, "output": output, "unloaded": None})

    return change


def refused(*texts: str, answer: str = NO_OPTION) -> Change:
    """The kernel refused kvm_amd with these log lines."""
    return all_of(attempt(answer), log(*texts))


def module(name: str, **state: Any) -> Change:
    """A kernel module is there, by default live and unused."""

    def change(evidence: Evidence) -> None:
        described = {"state": "live", "refcount": 0, "holders": [], "parameters": {}}
        evidence["modules"][name] = {**described, **state}

    return change


def bare_metal(evidence: Evidence) -> None:
    """CPUID and /proc/cpuinfo show no hypervisor."""
    for number in evidence["cpus"]["cpuid"]:
        leaves = evidence["cpus"]["cpuid"][number]
        leaves["0x1"][2] = hex(int(leaves["0x1"][2], 16) & ~(1 << 31))
        leaves["0x40000000"] = ["0x0", "0x0", "0x0", "0x0"]
        flags = evidence["cpus"]["cpuinfo"][number]["flags"]
        if "hypervisor" in flags:
            flags.remove("hypervisor")


def release(name: str) -> Change:
    """The kernel's release."""
    return lambda evidence: evidence["kernel"].update(release=name)


def module_files(**found: Any) -> Change:
    """What modprobe would find."""

    def change(evidence: Evidence) -> None:
        usual = {"folder": True, "index": True, "kvm_amd": "module", "lines": [], "would_run": None, "in_force": None}
        evidence["module_files"] = {**usual, "loading_disabled": "0", **found}

    return change


def line(text: str) -> dict[str, Any]:
    """A line of modprobe's configuration."""
    return {"file": "/etc/modprobe.d/local.conf", "number": 3, "text": text}


def surroundings(**found: Any) -> Change:
    """Where the host runs."""

    def change(evidence: Evidence) -> None:
        usual = dict.fromkeys(("container", "hypervisor_type", "xen_features", "vendor", "product", "bootloader_type"))
        evidence["surroundings"] = {**usual, **found}

    return change


def rights(**found: Any) -> Change:
    """What this process may do."""

    def change(evidence: Evidence) -> None:
        devtmpfs = {"path": "/dev", "type": "devtmpfs", "options": "rw,nosuid"}
        usual: dict[str, Any] = {"groups": ["root"], "capabilities": "000001ffffffffff", "seccomp": "0"}
        usual.update(user_namespace=False, lsm="lockdown,capability,apparmor", dev_mounts=[devtmpfs])
        evidence["rights"] = {**usual, **found}

    return change


def command_line(*parameters: str) -> Change:
    """The kernel's command line, as far as it bears on KVM."""
    return lambda evidence: evidence.update(command_line=list(parameters))


def lockdown(value: str) -> Change:
    """The kernel's lockdown mode."""
    return lambda evidence: evidence["kernel"].update(lockdown=value)


def user(number: int) -> Change:
    """kvmprobe ran as this user."""
    return lambda evidence: evidence["host"].update(euid=number)


def built_in_refused(*texts: str) -> Change:
    """kvm_amd is built in, and refused at boot with these lines."""
    built_in = {"state": "builtin", "refcount": None}
    return all_of(no_device, log(*texts), module("kvm", **built_in), module("kvm_amd", **built_in))


def device(opened: Any, **described: Any) -> Change:
    """/dev/kvm, and what opening it gave."""

    def change(evidence: Evidence) -> None:
        no_vm(evidence)
        evidence["snapshots"] = evidence["snapshots"][:1]
        evidence["device"].update(opened=opened if opened is None or opened is True else {"error": opened}, **described)
        evidence["ioctls"].update(KVM_GET_API_VERSION=None, KVM_CHECK_EXTENSION={})

    return change


def ioctl(name: str, error: str) -> Change:
    """An ioctl of /dev/kvm is refused."""

    def change(evidence: Evidence) -> None:
        no_vm(evidence)
        evidence["ioctls"][name] = {"error": error}

    return change


def unread(error: str) -> Change:
    """EFER and VM_CR cannot be read, and no guest was run, which would show SVM without them."""

    def change(evidence: Evidence) -> None:
        evidence["guest"] = []
        for name in ("EFER", "VM_CR"):
            set_everywhere(evidence, name, {"error": error})

    return change


def msr_attempt(answer: str) -> Change:
    """modprobe refused the module msr."""

    def change(evidence: Evidence) -> None:
        evidence["loads"] = [{"module": "msr", "status": 1, "output": answer, "unloaded": None}]

    return change


def firmware(vm_cr: str, svml: str = "0x5") -> Change:
    """VM_CR and EDX of the SVM leaf on bare metal."""

    def change(evidence: Evidence) -> None:
        firmware_disabled(evidence)
        set_everywhere(evidence, "VM_CR", vm_cr)
        set_leaf(evidence, "0x8000000a", 3, svml)
        bare_metal(evidence)

    return change


def svme_lost(evidence: Evidence) -> None:
    """KVM_CREATE_VM succeeded, and SVME reads 0."""
    set_everywhere(evidence, "EFER", "0xd01")
    evidence["guest"] = []


def set_guest(error: str, detail: str = "KVM_RUN") -> Change:
    """The guest failed on every CPU."""

    def change(evidence: Evidence) -> None:
        for run in evidence["guest"]:
            run.update(result="failed", detail=detail, error=error)

    return change


def guest_wrong(evidence: Evidence) -> None:
    """The guest gave a wrong answer on cpu1."""
    evidence["guest"][1].update(result="wrong", detail="KVM_RUN")


def family(eax: str) -> Change:
    """The CPU's signature, CPUID 1 EAX."""
    return lambda evidence: set_leaf(evidence, "0x1", 0, eax)


def hygon(evidence: Evidence) -> None:
    """The vendor is HygonGenuine."""
    for index, value in ((1, "0x6f677948"), (2, "0x656e6975"), (3, "0x6e65476e")):
        set_leaf(evidence, "0x0", index, value)


def paravirtualized(evidence: Evidence) -> None:
    """CPUID 1 EDX as Xen shows it to PV domains."""
    set_leaf(evidence, "0x1", 3, "0x1789d3f5")


def svm_through_kvm(evidence: Evidence) -> None:
    """Another module switched SVM on through kvm_enable_virtualization()."""
    set_everywhere(evidence, "EFER", "0x1d01")
    evidence["modules"]["kvm"].update(refcount=3, parameters={"enable_virt_at_load": "N"})
    evidence["modules"]["kvm_amd"]["refcount"] = 0


def nodev(evidence: Evidence) -> None:
    """/dev is mounted with nodev."""
    rights(dev_mounts=[{"path": "/dev", "type": "tmpfs", "options": "rw,nosuid,nodev"}])(evidence)


NOT_FOUND = "modprobe: FATAL: Module {} not found in directory /lib/modules/6.1.0-50-amd64"
DOCKER = surroundings(container="docker")
OPEN_EACCES = device("EACCES", type="char", number="10:232", mode="0660", owner="root", group="kvm")

# (cause, recorded evidence, change, reason, regular expressions for hint and because together)
CAUSED: tuple[tuple[str, str, Change, str, tuple[str, ...]], ...] = (
    (
        "confidential-vm-behind-paravisor",
        BASE,
        all_of(
            lacks_svm,
            under("Microsoft Hv"),
            log("Memory Encryption Features active: AMD SEV"),
            lambda e: set_leaf(e, "0x8000001f", 0, "0x0"),
        ),
        "sev-guest",
        ("without confidential computing",),
    ),
    (
        "confidential-vm",
        BASE,
        all_of(lacks_svm, under("KVMKVMKVM"), log("AMD Memory Encryption Features active: SEV SEV-ES")),
        "sev-guest",
        ("SEV SEV-ES", "instance type without memory encryption"),
    ),
    (
        "confidential-vm",
        BASE,
        refused("SVM: KVM is unsupported when running as an SEV guest"),
        "sev-guest",
        ("unsupported when running as an SEV guest",),
    ),
    (
        "xen-dom0",
        BASE,
        all_of(lacks_svm, under("XenVMMXenVMM"), surroundings(hypervisor_type="xen", xen_features="00002f05")),
        "cpu-lacks-svm",
        ("XENFEAT_dom0", "`grub-mkconfig -o /boot/grub/grub.cfg`"),
    ),
    (
        "xen-dom0",
        BASE,
        all_of(lacks_svm, bare_metal, surroundings(hypervisor_type="xen", xen_features="00000800")),
        "cpu-lacks-svm",
        ("XENFEAT_dom0",),
    ),
    (
        "xen-pv-domain",
        BASE,
        all_of(lacks_svm, under("XenVMMXenVMM"), paravirtualized),
        "cpu-lacks-svm",
        ("without Xen",),
    ),
    ("xen-guest-without-nested-svm", BASE, all_of(lacks_svm, under("XenVMMXenVMM")), "cpu-lacks-svm", ("nestedhvm=1",)),
    (
        "wsl2-without-nested-svm",
        BASE,
        all_of(lacks_svm, under("Microsoft Hv"), release("5.15.153.1-microsoft-standard-WSL2")),
        "cpu-lacks-svm",
        ("nestedVirtualization=true", "`wsl --shutdown`"),
    ),
    (
        "azure-size-without-nested-svm",
        BASE,
        all_of(lacks_svm, under("Microsoft Hv"), release("6.8.0-1019-azure")),
        "cpu-lacks-svm",
        ("`az vm resize",),
    ),
    (
        "cloud-instance-without-nested-svm",
        BASE,
        all_of(lacks_svm, under("KVMKVMKVM"), surroundings(vendor="Amazon EC2", product="m6a.large")),
        "cpu-lacks-svm",
        ("m6a.large", r"\.metal"),
    ),
    (
        "cloud-instance-without-nested-svm",
        BASE,
        all_of(lacks_svm, under("KVMKVMKVM"), release("6.1.112-122.189.amzn2023.x86_64")),
        "cpu-lacks-svm",
        (r"\.metal",),
    ),
    (
        "kvm-guest-without-nested-svm",
        BASE,
        all_of(lacks_svm, under("KVMKVMKVM")),
        "cpu-lacks-svm",
        ("host-passthrough",),
    ),
    ("qemu-without-svm", BASE, lacks_svm, "cpu-lacks-svm", ("EPYC",)),
    (
        "hyperv-guest-without-nested-svm",
        BASE,
        all_of(lacks_svm, under("Microsoft Hv")),
        "cpu-lacks-svm",
        ("ExposeVirtualizationExtensions",),
    ),
    (
        "vmware-guest-without-nested-svm",
        BASE,
        all_of(lacks_svm, under("VMwareVMware")),
        "cpu-lacks-svm",
        ("vhv.enable",),
    ),
    (
        "virtualbox-guest-without-nested-svm",
        BASE,
        all_of(lacks_svm, under("VBoxVBoxVBox")),
        "cpu-lacks-svm",
        ("--nested-hw-virt on",),
    ),
    ("vm-without-nested-svm", BASE, all_of(lacks_svm, under("bhyve bhyve")), "cpu-lacks-svm", ("bhyve bhyve",)),
    ("svm-filtered-on-bare-metal", BASE, all_of(lacks_svm, bare_metal), "cpu-lacks-svm", ("family 0x17", "hides it")),
    ("cpu-too-old", BASE, all_of(lacks_svm, bare_metal, family("0xfc0")), "cpu-lacks-svm", ("another machine",)),
    ("svm-disabled-by-hypervisor", BASE, firmware_disabled, "firmware-disabled", ("hypervisor outside",)),
    ("svm-disabled-locked-key-possible", BASE, firmware("0x18"), "firmware-disabled", ("Only the setup can show",)),
    ("svm-disabled-locked", BASE, firmware("0x18", "0x1"), "firmware-disabled", ("SVM Mode",)),
    ("svm-disabled-not-locked", BASE, firmware("0x10"), "firmware-disabled", ("SVM Mode",)),
    (
        "svm-disabled-not-locked",
        BASE,
        all_of(refused("kvm_amd: SVM disabled (by BIOS) in MSR_VM_CR on CPU 3"), bare_metal, unread("EIO")),
        "firmware-disabled",
        ("MSR_VM_CR on CPU 3", "SVM Mode"),
    ),
    ("modules-of-the-host", BASE, all_of(no_kvm_amd, DOCKER), "kvm-amd-not-loaded", ("On the host", "docker")),
    (
        "modules-gone",
        BASE,
        all_of(no_kvm_amd, module_files(folder=False, index=None, kvm_amd=None)),
        "kvm-amd-not-loaded",
        ("6.1.0-50-amd64 does not exist", "`systemctl reboot`"),
    ),
    (
        "modules-gone",
        BASE,
        all_of(
            attempt(NOT_FOUND.format("kvm_amd")),
            lambda e: e["loads"].append(
                {"module": "msr", "status": 1, "output": NOT_FOUND.format("msr"), "unloaded": None}
            ),
        ),
        "kvm-amd-load-failed",
        ("`systemctl reboot`",),
    ),
    (
        "module-index-missing",
        BASE,
        all_of(no_kvm_amd, module_files(index=False, kvm_amd=None)),
        "kvm-amd-not-loaded",
        ("`depmod -a`",),
    ),
    (
        "module-not-installed",
        BASE,
        all_of(attempt(NOT_FOUND.format("kvm_amd")), module_files(kvm_amd=None)),
        "kvm-amd-load-failed",
        ("linux-modules-extra",),
    ),
    (
        "module-not-installed",
        BASE,
        attempt(NOT_FOUND.format("kvm_amd")),
        "kvm-amd-load-failed",
        ("linux-modules-extra",),
    ),
    (
        "kernel-without-modules",
        BASE,
        attempt("this kernel has no loadable modules: there is no /proc/modules", None),
        "kvm-amd-not-loaded",
        ("CONFIG_KVM_AMD",),
    ),
    (
        "modprobe-hangs",
        BASE,
        attempt("modprobe did not end within 120 s", None),
        "kvm-amd-not-loaded",
        ("Reboot, which alone ends it: `systemctl reboot`",),
    ),
    ("modprobe-missing", BASE, attempt("there is no modprobe in /sbin", None), "kvm-amd-not-loaded", ("install kmod",)),
    (
        "other-vendor-module",
        BASE,
        all_of(attempt("", 0), module("kvm_pvm"), log("kvm: already loaded the other module")),
        "kvm-amd-load-failed",
        ("`modprobe -r kvm_pvm`",),
    ),
    (
        "other-vendor-module",
        BASE,
        all_of(attempt("", 0), module("kvm_pvm")),
        "kvm-amd-not-loaded",
        ("`modprobe -r kvm_pvm`",),
    ),
    (
        "other-vendor-module",
        BASE,
        all_of(attempt("", 0), module("kvm_pvm", refcount=2), log("kvm: already loaded vendor module 'kvm_pvm'")),
        "kvm-amd-load-failed",
        ("End its VMs first",),
    ),
    (
        "other-vendor-module",
        BASE,
        all_of(
            built_in_refused("kvm: already loaded vendor module 'kvm_intel'"),
            module("kvm_intel", state="builtin", refcount=None),
        ),
        "kvm-device-missing",
        ("boot a kernel that has",),
    ),
    (
        "install-line",
        BASE,
        all_of(
            attempt("", 0),
            module_files(
                lines=[line("install kvm_amd /bin/true")], would_run={"status": 0, "output": "install /bin/true"}
            ),
        ),
        "kvm-amd-not-loaded",
        ("sed -i '3s/\\^/# /' /etc/modprobe.d/local.conf", "modprobe -n -v kvm_amd: install /bin/true"),
    ),
    (
        "install-line",
        BASE,
        attempt(
            "modprobe: ERROR: Error running install command '/bin/false' for module kvm_amd: retcode 1\n"
            "modprobe: ERROR: could not insert 'kvm_amd': Invalid argument"
        ),
        "kvm-amd-load-failed",
        ("Remove this install line",),
    ),
    (
        "install-line",
        BASE,
        all_of(
            attempt("Unknown symbol in module, or unknown parameter (see dmesg)"),
            module_files(lines=[line("install kvm /bin/true")]),
            log("kvm_amd: Unknown symbol kvm_x86_vendor_exit (err -2)"),
        ),
        "kvm-amd-load-failed",
        ("local.conf:3: install kvm /bin/true",),
    ),
    (
        "module-blacklisted",
        BASE,
        all_of(no_kvm_amd, command_line("module_blacklist=nouveau,kvm-amd")),
        "kvm-amd-not-loaded",
        ("Remove module_blacklist=nouveau,kvm-amd from", "reboot"),
    ),
    (
        "module-blacklisted",
        BASE,
        refused("Module kvm is blacklisted", answer=NOT_PERMITTED),
        "kvm-amd-load-failed",
        ("module_blacklist=", "Module kvm is blacklisted"),
    ),
    (
        "module-mismatch",
        BASE,
        refused("kvm_amd: disagrees about version of symbol kvm_init", answer="Invalid argument"),
        "kvm-amd-load-failed",
        ("--reinstall", "`depmod -a`"),
    ),
    (
        "module-mismatch",
        BASE,
        all_of(
            refused(
                "kvm_amd: Unknown symbol kvm_x86_vendor_init (err -2)",
                answer="Unknown symbol in module, or unknown parameter (see dmesg)",
            ),
            module("kvm"),
        ),
        "kvm-amd-load-failed",
        ("`modprobe -r kvm`",),
    ),
    ("module-mismatch", BASE, attempt("Exec format error"), "kvm-amd-load-failed", ("--reinstall",)),
    (
        "parameter-invalid",
        BASE,
        all_of(
            refused("kvm_amd: `maybe' invalid for parameter `nested'", answer="Invalid argument"),
            module_files(lines=[line("options kvm_amd nested=maybe")]),
        ),
        "kvm-amd-load-failed",
        ("local.conf:3: options kvm_amd nested=maybe", "line 3 of /etc/modprobe.d/local.conf"),
    ),
    (
        "parameter-invalid",
        BASE,
        refused("kvm: `2' invalid for parameter `enable_virt_at_load'", answer="Invalid argument"),
        "kvm-amd-load-failed",
        ("enable_virt_at_load= is set for kvm",),
    ),
    (
        "module-unsigned",
        BASE,
        all_of(
            refused(
                "Lockdown: modprobe: unsigned module loading is restricted; see man kernel_lockdown.7",
                answer=NOT_PERMITTED,
            ),
            lockdown("integrity"),
        ),
        "kvm-amd-load-failed",
        ("signed modules", "Secure Boot"),
    ),
    (
        "module-unsigned",
        BASE,
        refused("Loading of unsigned module is rejected", answer="Key was rejected by service"),
        "kvm-amd-load-failed",
        ("mokutil",),
    ),
    (
        "svm-cleared-by-clearcpuid",
        BASE,
        all_of(refused("Clearing CPUID bits: umip svm", "has_svm: svm not available"), no_flag),
        "kvm-amd-load-failed",
        ("Remove clearcpuid=svm", "umip svm"),
    ),
    (
        "svm-cleared-by-clearcpuid",
        BASE,
        all_of(built_in_refused("kvm_amd: SVM not supported by CPU 0"), command_line("clearcpuid=194"), no_flag),
        "kvm-device-missing",
        ("Remove clearcpuid=194", "not supported by CPU 0"),
    ),
    (
        "svm-hidden-since-boot",
        BASE,
        all_of(
            refused("SVM disabled (by BIOS) in MSR_VM_CR", "kvm_amd: SVM not supported by CPU 1", answer="EIO"),
            no_flag,
        ),
        "kvm-amd-load-failed",
        ("until the next boot", "SVM Mode"),
    ),
    (
        "svm-hidden-by-kernel",
        BASE,
        all_of(refused("kvm_amd: SVM not supported by CPU 0", answer="Input/output error"), no_flag),
        "kvm-amd-load-failed",
        ("clearcpuid=",),
    ),
    (
        "no-nx",
        BASE,
        all_of(refused("SVM: NX (Execute Disable) not supported"), bare_metal),
        "kvm-amd-load-failed",
        ("firmware's setup",),
    ),
    (
        "no-nx",
        BASE,
        all_of(refused("kvm_amd: NX (Execute Disable) not supported"), command_line("clearcpuid=nx")),
        "kvm-amd-load-failed",
        ("Remove clearcpuid=nx",),
    ),
    ("no-nx", BASE, refused("kvm: NX (Execute Disable) not supported"), "kvm-amd-load-failed", ("give this VM",)),
    (
        "five-level-paging",
        BASE,
        refused("SVM: KVM doesn't yet support 5-level paging on AMD SVM", "kvm: no hardware support"),
        "kvm-amd-load-failed",
        ("no5lvl",),
    ),
    (
        "kernel-too-old-for-hygon",
        BASE,
        all_of(refused("has_svm: not amd", "kvm: no hardware support"), hygon, release("4.18.0-80.el8.x86_64")),
        "kvm-amd-load-failed",
        ("4.18.0-80", "Linux 4.20"),
    ),
    (
        "cpuid-leaf-missing",
        BASE,
        all_of(refused("has_svm: can't execute cpuid_8000000a"), lambda e: set_leaf(e, "0x80000000", 0, "0x80000008")),
        "kvm-amd-load-failed",
        ("xlevel", "0x80000008"),
    ),
    (
        "rt-without-constant-tsc",
        BASE,
        refused("kvm: RT requires X86_FEATURE_CONSTANT_TSC"),
        "kvm-amd-load-failed",
        ("without PREEMPT_RT", "invtsc"),
    ),
    ("fpu-inadequate", BASE, refused("kvm: inadequate fpu"), "kvm-amd-load-failed", ("nofxsr",)),
    (
        "pat-not-write-back",
        BASE,
        refused("kvm: host PAT[0] is not WB", answer="Input/output error"),
        "kvm-amd-load-failed",
        ("Update the firmware",),
    ),
    (
        "svm-held-at-load",
        AT_LOAD,
        all_of(
            refused(
                "kvm_amd: Nested Paging enabled",
                "kvm: enabling virtualization on CPU1 failed",
                answer="Input/output error",
            ),
            lambda e: set_everywhere(e, "EFER", "0xd01"),
        ),
        "kvm-amd-load-failed",
        ("is gone now", "`modprobe kvm_amd`"),
    ),
    (
        "blacklist-line",
        BASE,
        all_of(no_kvm_amd, module_files(lines=[line("blacklist kvm-amd")])),
        "kvm-amd-not-loaded",
        ("`modprobe kvm_amd`.*sed -i '3s",),
    ),
    (
        "blacklist-line",
        BASE,
        all_of(no_kvm_amd, command_line("modprobe.blacklist=kvm_amd")),
        "kvm-amd-not-loaded",
        ("Remove modprobe.blacklist=kvm_amd",),
    ),
    (
        "load-needs-root",
        BASE,
        all_of(attempt(NOT_PERMITTED), user(1000)),
        "kvm-amd-not-loaded",
        ("`sudo modprobe kvm_amd`",),
    ),
    (
        "module-loading-disabled",
        BASE,
        all_of(attempt(NOT_PERMITTED), module_files(loading_disabled="1")),
        "kvm-amd-load-failed",
        ("kernel.modules_disabled", "reboot"),
    ),
    (
        "load-not-permitted",
        BASE,
        all_of(attempt(NOT_PERMITTED), rights(capabilities="00000000a80425fb")),
        "kvm-amd-load-failed",
        ("CAP_SYS_MODULE",),
    ),
    ("load-out-of-memory", BASE, attempt("Cannot allocate memory"), "kvm-amd-load-failed", ("Free memory",)),
    (
        "kernel-log-unreadable",
        BASE,
        all_of(attempt(NO_OPTION), lambda e: e.update(log={"error": "EPERM", "lines": []})),
        "kvm-amd-load-failed",
        ("`dmesg -T`", "EPERM"),
    ),
    (
        "virtualbox-vms-running",
        AT_LOAD,
        all_of(held_at_load, module("vboxdrv", refcount=4, holders=["vboxnetadp", "vboxnetflt"])),
        "svm-held-by-another-owner",
        ("runningvms.*`modprobe kvm_amd`",),
    ),
    (
        "vmware-vms-running",
        BASE,
        all_of(held_at_create, module("vmmon", refcount=8)),
        "svm-held-by-another-owner",
        ("`vmrun list`",),
    ),
    (
        "virtualbox-loaded",
        BASE,
        all_of(
            held_at_create,
            module("vboxdrv", refcount=2, holders=["vboxnetadp", "vboxnetflt"], version="7.0.16 r162802"),
        ),
        "svm-held-by-another-owner",
        ("`modprobe -r vboxnetadp vboxnetflt vboxdrv`", "7.0.16"),
    ),
    (
        "vmware-loaded",
        BASE,
        all_of(held_at_create, module("vmmon")),
        "svm-held-by-another-owner",
        ("`modprobe -r vmmon`",),
    ),
    (
        "svm-left-on-before-kexec",
        AT_LOAD,
        all_of(held_at_load, surroundings(bootloader_type="208")),
        "svm-held-by-another-owner",
        ("kexec", "`systemctl reboot`.*`modprobe kvm_amd`"),
    ),
    ("svm-owner-not-found", BASE, held_at_create, "svm-held-by-another-owner", ("`systemctl reboot`",)),
    (
        "svm-held-through-kvm",
        AT_LOAD,
        svm_through_kvm,
        "svme-owner-unknown",
        ("Nothing to do for KVM", "kvm: refcount 3"),
    ),
    (
        "device-is-folder",
        BASE,
        device("EISDIR", type="folder", number=None, mode="0755"),
        "kvm-device-missing",
        ("`rmdir /dev/kvm`", "`modprobe -r kvm_amd`, `modprobe kvm_amd`"),
    ),
    (
        "device-is-folder",
        BASE,
        all_of(
            device("EISDIR", type="folder", number=None, mode="0755"),
            lambda e: e["modules"]["kvm_amd"].update(refcount=1),
        ),
        "kvm-device-missing",
        ("`mknod -m 0660 /dev/kvm c 10 232`",),
    ),
    (
        "device-is-folder",
        BASE,
        all_of(no_kvm_amd, lambda e: e["device"].update(type="folder")),
        "kvm-amd-not-loaded",
        ("`rmdir /dev/kvm`.*`modprobe kvm_amd`",),
    ),
    (
        "device-is-file",
        BASE,
        all_of(ioctl("KVM_GET_API_VERSION", "ENOTTY"), lambda e: e["device"].update(type="file", number=None)),
        "api-version",
        ("`rm /dev/kvm`",),
    ),
    (
        "device-has-wrong-number",
        BASE,
        all_of(ioctl("KVM_GET_API_VERSION", "ENOTTY"), lambda e: e["device"].update(number="1:3")),
        "api-version",
        ("`rm /dev/kvm`", "1:3"),
    ),
    ("built-in-kvm-amd-refused", BASE, built_in_refused(), "kvm-device-missing", ("at the next boot",)),
    (
        "container-without-device",
        BASE,
        all_of(device("ENOENT", type=None, number=None, mode=None), DOCKER),
        "kvm-device-missing",
        ("`docker run --device /dev/kvm IMAGE`",),
    ),
    (
        "no-devtmpfs",
        BASE,
        all_of(
            device("ENOENT", type=None, number=None, mode=None),
            rights(dev_mounts=[{"path": "/dev", "type": "tmpfs", "options": "rw"}]),
        ),
        "kvm-device-missing",
        ("`mknod", "/dev tmpfs"),
    ),
    ("node-missing", BASE, device("ENOENT", type=None, number=None, mode=None), "kvm-device-missing", ("`mknod",)),
    ("node-without-driver", BASE, device("ENODEV"), "kvm-device-missing", ("No driver",)),
    ("out-of-resource", BASE, device("EMFILE"), "kvm-not-permitted", ("`ulimit -n`",)),
    ("out-of-resource", BASE, ioctl("KVM_CREATE_VM", "ENFILE"), "kvm-not-permitted", ("fs.file-max",)),
    ("out-of-resource", AT_LOAD, set_guest("EMFILE", "KVM_CREATE_VCPU"), "guest-not-run", ("KVM_CREATE_VCPU on cpu0",)),
    ("ioctl-refused", BASE, ioctl("KVM_CREATE_VM", "EPERM"), "kvm-not-permitted", ("KVM_CREATE_VM: EPERM",)),
    (
        "ioctl-refused",
        BASE,
        all_of(ioctl("KVM_GET_API_VERSION", "ENOSYS"), rights(seccomp="2")),
        "kvm-not-permitted",
        ("a seccomp filter is on",),
    ),
    ("ioctl-refused", AT_LOAD, set_guest("EPERM"), "guest-not-run", ("sandbox",)),
    ("nodev-mount", BASE, all_of(device("EACCES"), nodev), "kvm-not-permitted", ("`mount -o remount,dev /dev`",)),
    (
        "not-in-group",
        BASE,
        all_of(OPEN_EACCES, user(1000), rights(groups=["users"])),
        "kvm-not-permitted",
        ("`sudo usermod -aG kvm", "groups of this process: users"),
    ),
    (
        "device-for-root-only",
        BASE,
        all_of(OPEN_EACCES, user(1000), lambda e: e["device"].update(mode="0600", group="root")),
        "kvm-not-permitted",
        ("65-kvm.rules",),
    ),
    ("device-cgroup-refuses", BASE, device("EPERM"), "kvm-not-permitted", ("DeviceAllow",)),
    (
        "open-refused-by-policy",
        BASE,
        all_of(device("EACCES"), rights(user_namespace=True)),
        "kvm-not-permitted",
        ("user namespace", "setfacl"),
    ),
    (
        "hypervisor-refuses-svme",
        BASE,
        all_of(
            svme_lost,
            log("unchecked MSR access error: WRMSR to 0xc0000080 (tried to write 0x0000000000001d01)"),
        ),
        "svme-not-set",
        ("refuses EFER.SVME",),
    ),
    ("hypervisor-loses-svme", BASE, svme_lost, "svme-not-set", ("hypervisor outside",)),
    ("hypervisor-runs-guest-wrongly", BASE, guest_wrong, "guest-failed", ("first suspect",)),
    ("registers-need-root", BASE, all_of(unread("EACCES"), user(1000)), "msr-unreadable", ("`sudo kvmprobe check`",)),
    ("container-without-msr", BASE, all_of(unread("ENOENT"), DOCKER), "msr-unreadable", ("--privileged",)),
    (
        "registers-need-capability",
        BASE,
        all_of(unread("EPERM"), rights(capabilities="00000000a80425fb")),
        "msr-unreadable",
        ("CAP_SYS_RAWIO", "a80425fb"),
    ),
    (
        "msr-module-missing",
        BASE,
        all_of(unread("ENOENT"), lambda e: e.update(loads=[])),
        "msr-unreadable",
        ("`modprobe msr`",),
    ),
    (
        "msr-module-missing",
        BASE,
        all_of(unread("ENOENT"), msr_attempt(NOT_FOUND.format("msr"))),
        "msr-unreadable",
        ("reboot", "CONFIG_X86_MSR"),
    ),
    ("registers-refused-by-hypervisor", BASE, unread("EIO"), "msr-unreadable", ("does not let this VM read",)),
)
