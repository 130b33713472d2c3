"""EFER.SVME was 1 without KVM's doing: who can be its owner, and how the CPUs become free.

Only out-of-tree hypervisors (VirtualBox, VMware) switch SVM on by themselves. kvm_intel and vendor modules such as
kvm_pvm never write EFER.SVME.
"""

from __future__ import annotations

from kvmprobe.judge.causes.cause import Cause, Found
from kvmprobe.judge.causes.quotes import hypervisor_text, known_text, surroundings, users_beyond_holders
from kvmprobe.judge.causes.steps import LOAD
from kvmprobe.judge.facts import Facts

_HELD = ("svm-held-by-another-owner",)
_THROUGH_KVM = ("vm-not-created", "svme-owner-unknown", "interfered")
_KEXEC = 0xD  # the boot loader's type that kexec gives (Documentation/arch/x86/boot.rst, type_of_loader)
_TAKING_TURNS = (
    "VirtualBox and KVM can take turns; they cannot run VMs at the same time. VirtualBox before 7.2.10, and any "
    "VirtualBox on kernels from 6.12 to 6.15, needs kvm.enable_virt_at_load=0 on the kernel's command line. "
    "VirtualBox 7.2.10 and later on 6.16 and later needs the opposite: no such parameter."
)


def _found(facts: Facts, because: list[str], **words: str) -> Found:
    """The last step is to load kvm_amd where it is not there: since 6.12 a foreign SVME keeps it from loading."""
    loaded = facts.has_kvm_amd is not False
    then, load = ("", "") if loaded else ("Then load kvm_amd:", LOAD[0])
    return Found(because, None, then=then, load=load, **words)


def _owner(facts: Facts, name: str, has_vms: bool) -> Found | None:
    """A loaded out-of-tree hypervisor: with VMs, its references are more than the modules that use it."""
    module = facts.modules.get(name)
    if module is None or module["state"] == "builtin" or (users_beyond_holders(module) > 0) is not has_vms:
        return None
    version = known_text(module.get("version"))
    holders = f" (modules: {', '.join(module['holders'])})" if module["holders"] else ""
    text = f"{name}{' ' + version if version else ''} is loaded, refcount {module['refcount']}{holders}"
    turns = _TAKING_TURNS if facts.enables_at_load() is not None else ""
    unload = " ".join([*module["holders"], name])
    return _found(facts, [text], modules=unload, turns=turns)


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
    """kvm_enable_virtualization() (6.12 to 7.0) counts its users in kvm's refcount, not in kvm_amd's."""
    if facts.users_of_kvm() <= 0 or not facts.svme_set_before():
        return None
    kvm = facts.modules["kvm"]
    count = f"kvm: refcount {kvm['refcount']}, of which modules {len(kvm['holders'])} ({', '.join(kvm['holders'])})"
    return Found([count])


CAUSES = (
    Cause(
        "virtualbox-vms-running",
        _HELD,
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
    ),
    Cause(
        "vmware-vms-running",
        _HELD,
        "VMware is loaded and in use: its VMs run with SVM, which VMware switched on by itself.",
        vmware_with_vms,
        (
            "VMware's VMs use SVM. Show the running ones, and end each:",
            "$ vmrun list",
            "$ vmrun stop FILE.vmx soft",
            "{then}",
            "{load}",
        ),
    ),
    Cause(
        "virtualbox-loaded",
        _HELD,
        "VirtualBox's module is loaded without VMs. It can be what left SVM switched on.",
        virtualbox_without_vms,
        (
            "VirtualBox's module is loaded and no VM uses it. It may have left SVM on; unload it:",
            "# modprobe -r {modules}",
            "{then}",
            "{load}",
            "If EFER.SVME stays 1, reboot.",
            "{turns}",
        ),
    ),
    Cause(
        "vmware-loaded",
        _HELD,
        "VMware's module is loaded without VMs. It can be what left SVM switched on.",
        vmware_without_vms,
        (
            "VMware's module is loaded and no VM uses it. It may have left SVM on; unload it:",
            "# modprobe -r {modules}",
            "{then}",
            "{load}",
            "If EFER.SVME stays 1, reboot.",
        ),
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
    ),
    Cause(
        "svm-owner-not-found",
        _HELD,
        "EFER.SVME is 1, and no module is loaded that can be its owner: a module that is unloaded by now, a kernel "
        "before kexec, or something below this kernel left it on.",
        no_owner,
        (
            (
                "No module that can be the owner of SVM is loaded. Something that is gone by now left SVM on "
                "(another hypervisor's module, a kernel before kexec), or something below this kernel did. A reboot "
                "resets the CPUs:"
            ),
            "# systemctl reboot",
            "{then}",
            "{load}",
            "If SVME is 1 again right after a reboot, report that with this file:",
            "# kvmprobe --format json --output report.json",
        ),
    ),
    Cause(
        "svm-held-through-kvm",
        _THROUGH_KVM,
        "kvm has more references than the modules that use it: another module, such as VirtualBox's, switched SVM on "
        "through KVM's own kvm_enable_virtualization(). KVM counts that, and KVM_CREATE_VM succeeds there.",
        through_kvm,
        (
            (
                "Nothing to do for KVM: SVM was switched on through KVM itself, and KVM_CREATE_VM can succeed. To "
                "see it, create a VM:"
            ),
            "# kvmprobe check",
        ),
    ),
)
