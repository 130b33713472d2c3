"""No SVM bit: who filters it, by where the host runs."""

from __future__ import annotations

import re

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.causes.cause import Cause, Found
from kvmprobe.judge.causes.quotes import (
    family,
    from_log,
    hypervisor,
    hypervisor_text,
    in_vm,
    leaf_word,
    product,
    surroundings,
)
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.kernel_lines import refusals
from kvmprobe.model.registers import LEAF_FEATURES
from kvmprobe.model.values import as_int

if TYPE_CHECKING:
    from typing import Callable

_REASONS = ("cpu-lacks-svm",)
_XENFEAT_DOM0 = 11  # include/xen/interface/features.h
_PGE = 13  # CPUID 1 EDX: Xen keeps it from paravirtualized domains
_FIRST_FAMILY_WITH_SVM_IN_ALL = 0x10


def _xen_features(facts: Facts) -> int | None:
    found = surroundings(facts)
    return as_int(found["xen_features"]) if found else None


def _is_xen(facts: Facts) -> bool:
    found = surroundings(facts)
    named = found is not None and found["hypervisor_type"] == "xen"
    return named or hypervisor(facts).startswith("XenVMMXenVMM")


def _lines(facts: Facts) -> list[str]:
    found = [refusal for refusal in refusals(facts) if refusal.kind == "no-svm"]
    return from_log(found[-1].text) if found else []


def xen_dom0(facts: Facts) -> Found | None:
    features = _xen_features(facts)
    if not _is_xen(facts) or features is None or not features >> _XENFEAT_DOM0 & 1:
        return None
    quoted = [f"/sys/hypervisor/properties/features: {features:08x} (bit 11, XENFEAT_dom0)"]
    return Found([*hypervisor_text(facts), *quoted, *_lines(facts)])


def xen_paravirtualized(facts: Facts) -> Found | None:
    """Without the feature bits: a paravirtualized domain, which the usual dom0 is, sees no PGE."""
    edx = leaf_word(facts, LEAF_FEATURES, 3)
    if not _is_xen(facts) or edx is None or edx >> _PGE & 1:
        return None
    return Found([*hypervisor_text(facts), f"CPUID 1 EDX = {edx:#x}, without PGE: a PV domain", *_lines(facts)])


def xen_guest(facts: Facts) -> Found | None:
    return Found([*hypervisor_text(facts), *_lines(facts)]) if _is_xen(facts) else None


def wsl(facts: Facts) -> Found | None:
    release = facts.evidence["kernel"]["release"]
    if not re.search(r"microsoft|WSL2", release, re.IGNORECASE):
        return None
    return Found([f"kernel {release}", *hypervisor_text(facts), *_lines(facts)])


_CLOUDS = re.compile(
    r"Amazon EC2|Google|OpenStack|Alibaba|Tencent|DigitalOcean|Hetzner|Vultr|Oracle|OVH", re.IGNORECASE
)


def azure(facts: Facts) -> Found | None:
    release = facts.evidence["kernel"]["release"]
    if not hypervisor(facts).startswith("Microsoft Hv") or "azure" not in release:
        return None
    return Found([*hypervisor_text(facts), f"kernel {release}", *_lines(facts)])


def cloud(facts: Facts) -> Found | None:
    name = product(facts)
    release = facts.evidence["kernel"]["release"]
    by_kernel = re.search(r"-(?:aws|gcp|gke|oracle|amzn2|amzn2023)\b|\.amzn\d", release)
    if in_vm(facts) is False or not (_CLOUDS.search(name) or by_kernel):
        return None
    quoted = [f"/sys/class/dmi/id: {name}"] if _CLOUDS.search(name) else [f"kernel {release}"]
    return Found([*hypervisor_text(facts), *quoted, *_lines(facts)], cloud=name or "the cloud")


def _under(*names: str) -> Callable[[Facts], Found | None]:
    """The question whether the host is a VM of one of these hypervisors."""

    def ask(facts: Facts) -> Found | None:
        if not hypervisor(facts).startswith(names):
            return None
        return Found([*hypervisor_text(facts), *_lines(facts)])

    return ask


def any_vm(facts: Facts) -> Found | None:
    if not in_vm(facts):
        return None
    name = hypervisor(facts)
    return Found([*hypervisor_text(facts), *_lines(facts)], name=f" ({name})" if name else "")


def bare_metal(facts: Facts) -> Found | None:
    number = family(facts)
    if in_vm(facts) is not False or number is None or number < _FIRST_FAMILY_WITH_SVM_IN_ALL:
        return None
    return Found([f"CPU family {number:#x}, no hypervisor by CPUID", *_lines(facts)])


def old_cpu(facts: Facts) -> Found | None:
    number = family(facts)
    if in_vm(facts) is not False or number is None or number >= _FIRST_FAMILY_WITH_SVM_IN_ALL:
        return None
    return Found([f"CPU family {number:#x}", *_lines(facts)])


CAUSES = (
    Cause(
        "xen-dom0",
        _REASONS,
        "The host is Xen's dom0. Xen owns SVM, and shows dom0 a CPU without it. Source: feature bit 11, XENFEAT_dom0.",
        xen_dom0,
        (
            (
                "Xen owns SVM on this machine, and this is its dom0. To use KVM, boot the kernel without Xen: "
                "choose the boot entry that does not begin with Xen. On Debian, make that the default:"
            ),
            "# sh -c 'echo XEN_OVERRIDE_GRUB_DEFAULT=0 >>/etc/default/grub.d/xen.cfg'",
            "# update-grub",
            "# systemctl reboot",
            "To stay with Xen, run VMs with Xen's own tools (xl, or libvirt's xen:///system) in place of KVM.",
        ),
    ),
    Cause(
        "xen-pv-domain",
        _REASONS,
        "The host is a paravirtualized Xen domain: the usual dom0, or a PV guest. Xen owns SVM and never gives it "
        "to one.",
        xen_paravirtualized,
        (
            "Xen owns SVM on this machine, and this is a PV domain of it, dom0 or a guest. See which one:",
            "$ cat /proc/xen/capabilities",
            (
                "If it shows control_d, this is dom0: boot the kernel without Xen (the boot entry that does not "
                "begin with Xen) to use KVM, or run VMs with Xen's own tools (xl) in place of KVM."
            ),
            (
                "Else this is a guest: a PV guest never has SVM. Whoever runs Xen has to make it an HVM guest with "
                "nestedhvm=1."
            ),
        ),
    ),
    Cause(
        "xen-guest-without-nested-svm",
        _REASONS,
        "The host is a guest of Xen without nested virtualization.",
        xen_guest,
        (
            (
                "This is a guest of Xen. Whoever runs Xen has to set nestedhvm=1 and type='hvm' in the guest's "
                "configuration and start the guest again. If this is dom0, boot the kernel without Xen."
            ),
        ),
    ),
    Cause(
        "wsl2-without-nested-svm",
        _REASONS,
        "The kernel is that of WSL2, whose virtual machine was not given SVM.",
        wsl,
        (
            "In Windows, write these two lines to %UserProfile%\\.wslconfig:",
            "$ [wsl2]",
            "$ nestedVirtualization=true",
            "Then, in PowerShell, start WSL again. Windows 11 is needed for nested virtualization on AMD:",
            "$ wsl --shutdown",
        ),
    ),
    Cause(
        "azure-size-without-nested-svm",
        _REASONS,
        "The host is a virtual machine in Azure of a size without nested virtualization.",
        azure,
        (
            (
                "Resize the VM to a size that supports nested virtualization and is not confidential (Azure's "
                "documentation lists it for each size), for instance:"
            ),
            "$ az vm resize --resource-group GROUP --name VM --size Standard_D4as_v5",
            "A security type 'Trusted Launch' can also take it away: use 'Standard'.",
        ),
    ),
    Cause(
        "cloud-instance-without-nested-svm",
        _REASONS,
        "The host is a cloud instance whose hypervisor does not give SVM to its guests.",
        cloud,
        (
            (
                "This instance type does not offer SVM to its guests, and nothing inside the instance can change "
                "that. Use a bare-metal instance type (Amazon EC2: the types whose name ends in .metal), or a type "
                "for which the provider documents nested virtualization on AMD."
            ),
        ),
    ),
    Cause(
        "kvm-guest-without-nested-svm",
        _REASONS,
        "The host is a VM of KVM, and its hypervisor does not give it SVM.",
        _under("KVMKVMKVM", "Linux KVM Hv"),
        (
            "On the hypervisor outside, see whether kvm_amd allows nested virtualization (1 or Y):",
            "$ cat /sys/module/kvm_amd/parameters/nested",
            "If it is 0, end all VMs there, and load kvm_amd again:",
            "$ sudo modprobe -r kvm_amd",
            "$ sudo modprobe kvm_amd nested=1",
            (
                "Give the VM the host's CPU: QEMU -cpu host (or -cpu MODEL,+svm); libvirt, in virsh edit VM: <cpu "
                "mode='host-passthrough'/>; Proxmox: qm set VMID --cpu host."
            ),
            "Power the VM off and on: a reboot from inside does not change its CPU.",
        ),
    ),
    Cause(
        "qemu-without-svm",
        _REASONS,
        "The host is a machine that QEMU emulates without KVM (TCG), with a CPU model without SVM.",
        _under("TCGTCGTCGTCG"),
        ("Start QEMU with a CPU model that has SVM:", "$ qemu-system-x86_64 -accel tcg -cpu EPYC,+svm"),
    ),
    Cause(
        "hyperv-guest-without-nested-svm",
        _REASONS,
        "The host is a virtual machine of Hyper-V without nested virtualization.",
        _under("Microsoft Hv"),
        (
            (
                "On the Windows host, with the VM off, in PowerShell as administrator (Windows 11 or Server 2022 is "
                "needed for AMD):"
            ),
            "$ Set-VMProcessor -VMName NAME -ExposeVirtualizationExtensions $true",
            "Then start the VM again.",
        ),
    ),
    Cause(
        "vmware-guest-without-nested-svm",
        _REASONS,
        "The host is a virtual machine of VMware without nested virtualization.",
        _under("VMwareVMware"),
        (
            (
                "Power the VM off. In its settings, under Processors, select 'Virtualize Intel VT-x/EPT or AMD-V/RVI' "
                "(vSphere: 'Expose hardware assisted virtualization to the guest OS'), or add to its .vmx file:"
            ),
            '$ vhv.enable = "TRUE"',
            "On a Windows host this needs Hyper-V and memory integrity off. Then power the VM on.",
        ),
    ),
    Cause(
        "virtualbox-guest-without-nested-svm",
        _REASONS,
        "The host is a virtual machine of VirtualBox without nested virtualization.",
        _under("VBoxVBoxVBox"),
        (
            "Power the VM off, then, on the machine that runs VirtualBox:",
            "$ VBoxManage modifyvm NAME --nested-hw-virt on",
        ),
    ),
    Cause(
        "vm-without-nested-svm",
        _REASONS,
        "The host is a virtual machine, and its hypervisor does not give it SVM.",
        any_vm,
        (
            (
                "The hypervisor outside{name} does not offer SVM to this VM, and nothing inside can change that. "
                "Ask whoever runs it to enable nested virtualization for this VM (AMD-V inside the guest), then "
                "power the VM off and on. If it has no nested virtualization, use bare metal."
            ),
        ),
    ),
    Cause(
        "svm-filtered-on-bare-metal",
        _REASONS,
        "CPUID shows no hypervisor and no SVM, on a CPU of family 0x10 or later. Every such CPU has SVM: something "
        "filters it.",
        bare_metal,
        (
            (
                "Every AMD CPU of this family has SVM, so something hides it: a firmware that masks the CPUID bit, "
                "or a hypervisor that hides itself. Enable 'SVM Mode' (AMD-V) in the firmware's setup, and update "
                "the firmware:"
            ),
            *("# systemctl reboot --firmware-setup",),
            "See whether a hypervisor is below:",
            "$ systemd-detect-virt",
        ),
    ),
    Cause(
        "cpu-too-old",
        _REASONS,
        "The CPU is older than family 0x10 (2007) and of a model without SVM.",
        old_cpu,
        ("This CPU model has no SVM, and no setting can change that: KVM needs another machine.",),
    ),
)
