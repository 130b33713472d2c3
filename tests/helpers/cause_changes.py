"""The changes that bring recorded evidence into the state of a cause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.helpers.evidence_changes import log
from tests.helpers.variants import (
    Evidence,
    firmware_disabled,
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
Caused = tuple[tuple[str, str, Change, str, tuple[str, ...]], ...]
