"""EFER.SVME was 1 without KVM's doing: who can be its owner, and how the CPUs become free.

Only out-of-tree hypervisors (VirtualBox, VMware) switch SVM on by themselves. kvm_intel and vendor modules such as
kvm_pvm never write EFER.SVME.
"""

from __future__ import annotations

import re

from kvmprobe.judge.causes.cause import Cause, Found
from kvmprobe.judge.causes.quotes import hypervisor_text, known_text, surroundings, users_beyond_holders
from kvmprobe.judge.causes.steps import LOAD
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.kernel_lines import is_held_at_load
from kvmprobe.judge.svme_unowned import overrun_cpus
from kvmprobe.model.cpu_lists import cpu_names
from kvmprobe.model.values import HELD_ERRORS, error_of

_HELD = ("svm-held-by-another-owner",)
_THROUGH_KVM = ("vm-not-created", "svme-owner-unknown", "interfered")
_KEXEC = 0xD  # the boot loader's type that kexec gives (Documentation/arch/x86/boot.rst, type_of_loader)
_OWN = (*_HELD, "create-vm-failed", "kvm-amd-load-failed")  # where EFER could not be read
_TURNS = "VirtualBox and KVM can run VMs in turn, not at the same time. "
_NEEDS_N = (
    "This VirtualBox needs kvm.enable_virt_at_load=0 on the kernel's command line, so that KVM uses SVM only "
    "while it has VMs."
)
_NEEDS_Y = (
    "This VirtualBox uses SVM through KVM and needs KVM's default: no kvm.enable_virt_at_load=0 on the kernel's "
    "command line."
)
_NEEDS_EITHER = (
    "VirtualBox before 7.2.10 needs kvm.enable_virt_at_load=0 on the kernel's command line; 7.2.10 and later on this "
    "kernel needs the default (no such parameter)."
)
_THROUGH_KVM_SINCE = (7, 2, 10), (6, 16)  # VirtualBox and Linux from which on VirtualBox uses SVM through KVM


_USUAL = {
    "then": "Then load kvm_amd, where it is not loaded:",
    "load": LOAD[0],
    "turns": _TURNS
    + (
        "VirtualBox before 7.2.10, and every VirtualBox on Linux before 6.16, needs kvm.enable_virt_at_load=0 on the "
        "kernel's command line; later ones need the default (no such parameter)."
    ),
}


_CANNOT_UNLOAD = (
    (
        "Another hypervisor's module is loaded. This kernel does not count its users, and unloads no module. End its "
        "VMs, keep it from being loaded at boot, and reboot:"
    ),
    "# systemctl reboot",
)


def _found(facts: Facts, because: list[str], **words: str) -> Found:
    """The last step is to load kvm_amd where it is not there: since 6.12 a foreign SVME keeps it from loading."""
    loaded = facts.has_kvm_amd is not False
    then, load = ("", "") if loaded else ("Then load kvm_amd:", LOAD[0])
    return Found(because, None, then=then, load=load, **words)


def _owner(facts: Facts, name: str, has_vms: bool) -> Found | None:
    """A loaded out-of-tree hypervisor: with VMs, its references are more than the modules that use it."""
    module = facts.modules.get(name)
    if not _svm_was_refused(facts):
        return None
    if module is None or module["state"] == "builtin":
        return None
    users = users_beyond_holders(module)
    if ((users or 0) > 0) is not has_vms:
        return None
    version = known_text(module.get("version"))
    holders = f" (modules: {', '.join(module['holders'])})" if module["holders"] else ""
    count = "unknown" if users is None else module["refcount"]
    text = f"{name}{' ' + version if version else ''} is loaded, refcount {count}{holders}"
    if users is None:
        return Found([text], _CANNOT_UNLOAD)
    turns = _turns(facts, version) if name == "vboxdrv" else ""
    unload = " ".join([*module["holders"], name])
    return _found(facts, [text], modules=unload, turns=turns)


def _svm_was_refused(facts: Facts) -> bool:
    """Whether KVM found SVM in use: by the registers, by KVM_CREATE_VM's answer, or by the log of loading kvm_amd."""
    refused = error_of(facts.create_vm) in HELD_ERRORS or is_held_at_load(facts)
    return bool(facts.svme_set_before()) or refused


def _turns(facts: Facts, version: str | None) -> str:
    """How VirtualBox and this kernel's KVM get along; "" before 6.12, where KVM uses SVM only while it has VMs."""
    if facts.enables_at_load() is None:
        return ""
    virtualbox, linux = _THROUGH_KVM_SINCE
    if _numbers(facts.evidence["kernel"]["release"]) < linux:
        return _TURNS + _NEEDS_N
    numbers = _numbers(version or "")
    if not numbers:
        return _TURNS + _NEEDS_EITHER
    return _TURNS + (_NEEDS_Y if numbers >= virtualbox else _NEEDS_N)


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with: (7, 0, 16) for "7.0.16_Ubuntu r162802"."""
    found = re.match(r"[0-9]{1,4}(?:\.[0-9]{1,4})*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def virtualbox_with_vms(facts: Facts) -> Found | None:
    return _owner(facts, "vboxdrv", True)


def virtualbox_without_vms(facts: Facts) -> Found | None:
    return _owner(facts, "vboxdrv", False)


def vmware_with_vms(facts: Facts) -> Found | None:
    return _owner(facts, "vmmon", True)


def vmware_without_vms(facts: Facts) -> Found | None:
    return _owner(facts, "vmmon", False)


def kexec(facts: Facts) -> Found | None:
    found = surroundings(facts)
    text = known_text(found["bootloader_type"]) if found else None
    if text is None or not (text.isascii() and text.isdigit()) or int(text) >> 4 != _KEXEC:
        return None
    because = f"kernel.bootloader_type = {text}: this kernel was started by kexec"
    return _found(facts, [because])


def no_owner(facts: Facts) -> Found | None:
    if facts.evidence["modules"] is None:
        return None
    absent = "neither vboxdrv (VirtualBox) nor vmmon (VMware) is loaded"
    return _found(facts, [absent, *hypervisor_text(facts)])


def through_kvm(facts: Facts) -> Found | None:
    """kvm_enable_virtualization() (6.12 to 7.0) counts its users in kvm's refcount, not in kvm_amd's.

    Whether KVM sets SVME by itself shows only without them.
    """
    if facts.users_of_kvm() <= 0 or not facts.svme_set_before():
        return None
    kvm = facts.modules["kvm"]
    vendors = [name for name in kvm["holders"] if name.startswith("kvm_")]
    count = f"kvm: refcount {kvm['refcount']}, of which vendor modules {len(vendors)} ({', '.join(vendors)})"
    return Found([count], _CREATED if facts.vm_created else None)


_CREATED = (
    (
        "Nothing to do for KVM: another module switched SVM on through it, and KVM_CREATE_VM succeeded. To have the "
        "registers confirm it, end what uses SVM through KVM (such as VirtualBox's VMs), and check again:"
    ),
    "# kvmprobe check",
)


def overrun(facts: Facts) -> Found | None:
    """SVME of another owner that KVM_CREATE_VM did not refuse."""
    cpus = overrun_cpus(facts)
    return Found([f"{cpu_names(cpus)}: SVME cleared by KVM"]) if cpus else None


OVERRUN = Cause(
    "kvm-overran-owner",
    _HELD,
    "EFER.SVME was set on some CPU, and not by KVM. KVM_CREATE_VM succeeded in place of answering EBUSY (EIO since "
    "6.12), and closing the VM cleared SVME: a defect of the kernel, which switches SVM off under another owner.",
    overrun,
    (
        "Do not run VMs on this host beside another owner of SVM. Find what set SVME:",
        "$ lsmod",
        "Report the kernel's defect with this report attached: svm_hardware_enable() has to answer EBUSY.",
    ),
)

WITH_VMS = (
    Cause(
        "virtualbox-vms-running",
        _OWN,
        "VirtualBox is loaded and in use: its VMs run with SVM, which VirtualBox switched on by itself.",
        virtualbox_with_vms,
        (
            "VirtualBox's VMs use SVM. Show the running ones, as the user that started them, and end each:",
            "$ VBoxManage list runningvms",
            "$ VBoxManage controlvm NAME acpipowerbutton",
            "{then}",
            "{load}",
            "{turns}",
        ),
        _USUAL,
    ),
    Cause(
        "vmware-vms-running",
        _OWN,
        "VMware is loaded and in use: its VMs run with SVM, which VMware switched on by itself.",
        vmware_with_vms,
        (
            "VMware's VMs use SVM. Show the running ones, and end each:",
            "$ vmrun list",
            "$ vmrun stop FILE.vmx soft",
            "{then}",
            "{load}",
        ),
        _USUAL,
    ),
)

LEFT_ON = (
    Cause(
        "virtualbox-loaded",
        _HELD,
        "VirtualBox's module is loaded without VMs. It may have left SVM switched on.",
        virtualbox_without_vms,
        (
            "VirtualBox's module is loaded and no VM uses it. It may have left SVM on; unload it:",
            "# modprobe -r {modules}",
            "{then}",
            "{load}",
            "If EFER.SVME stays 1, reboot.",
            "{turns}",
        ),
        _USUAL,
    ),
    Cause(
        "vmware-loaded",
        _HELD,
        "VMware's module is loaded without VMs. It may have left SVM switched on.",
        vmware_without_vms,
        (
            "VMware's module is loaded and no VM uses it. It may have left SVM on; unload it:",
            "# modprobe -r {modules}",
            "{then}",
            "{load}",
            "If EFER.SVME stays 1, reboot.",
        ),
        _USUAL,
    ),
    Cause(
        "svm-left-on-before-kexec",
        _HELD,
        "This kernel was started by kexec. The kernel before it did not switch SVM off, and kexec does not reset "
        "the CPUs.",
        kexec,
        (
            "The kernel before this one left SVM on, and kexec does not reset the CPUs. Reboot through the firmware:",
            "# systemctl reboot",
            "{then}",
            "{load}",
            "Before the next kexec, end all VMs and unload kvm_amd.",
        ),
        _USUAL,
    ),
    Cause(
        "svm-owner-not-found",
        _HELD,
        "EFER.SVME is 1, and no loaded module is known to set it. A module that was unloaded, a kernel before kexec, "
        "firmware or a hypervisor outside may have left it on.",
        no_owner,
        (
            ("Probably a module that is gone, or a kernel before kexec, left SVM on. Reboot, which resets the CPUs:"),
            "# systemctl reboot",
            "{then}",
            "{load}",
            "If SVME is 1 right after a reboot, firmware or a hypervisor outside set it.",
        ),
        _USUAL,
    ),
    Cause(
        "svm-held-through-kvm",
        _THROUGH_KVM,
        "kvm has more references than the modules that use it: another module, such as VirtualBox's, switched SVM on "
        "through KVM's own kvm_enable_virtualization(). KVM counts that, and KVM_CREATE_VM succeeds there.",
        through_kvm,
        (
            (
                "Nothing to do for KVM: another module switched SVM on through it, so KVM_CREATE_VM can succeed. To "
                "see that, create a VM:"
            ),
            "# kvmprobe check",
        ),
    ),
)
