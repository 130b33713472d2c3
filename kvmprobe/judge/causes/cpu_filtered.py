"""No SVM bit: who filters it, by where the host runs."""

from __future__ import annotations

import re

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.causes import xen_domain
from kvmprobe.judge.causes.cause import Cause, Found
from kvmprobe.judge.causes.quotes import (
    family,
    hypervisor,
    hypervisor_text,
    in_vm,
    is_wsl,
    no_svm_lines,
    product,
)
from kvmprobe.judge.causes.steps import FIRMWARE_SETUP
from kvmprobe.judge.facts import Facts

if TYPE_CHECKING:
    from typing import Callable

_REASONS = ("cpu-lacks-svm",)
_FIRST_FAMILY_WITH_SVM_IN_ALL = 0x10


def wsl(facts: Facts) -> Found | None:
    if not is_wsl(facts):
        return None
    return Found([f"kernel {facts.evidence['kernel']['release']}", *hypervisor_text(facts), *no_svm_lines(facts)])


def wsl1(facts: Facts) -> Found | None:
    """Windows answers the system calls of WSL 1 by itself, as "4.4.0-19041-Microsoft": there is no Linux kernel."""
    release = facts.evidence["kernel"]["release"]
    return Found([f"kernel {release}"]) if release.endswith("-Microsoft") else None


_CLOUDS = re.compile(
    r"Amazon EC2|Google|OpenStack|Alibaba|Tencent|DigitalOcean|Hetzner|Vultr|Oracle|OVH", re.IGNORECASE
)


def azure(facts: Facts) -> Found | None:
    release = facts.evidence["kernel"]["release"]
    if not hypervisor(facts).startswith("Microsoft Hv") or "azure" not in release:
        return None
    return Found([*hypervisor_text(facts), f"kernel {release}", *no_svm_lines(facts)])


def cloud(facts: Facts) -> Found | None:
    name = product(facts)
    release = facts.evidence["kernel"]["release"]
    by_kernel = re.search(r"-(?:aws|gcp|gke|oracle|cloud)\b|\.amzn\d", release)
    if in_vm(facts) is False or not (_CLOUDS.search(name) or by_kernel):
        return None
    quoted = [f"/sys/class/dmi/id: {name}"] if _CLOUDS.search(name) else [f"kernel {release}"]
    return Found([*hypervisor_text(facts), *quoted, *no_svm_lines(facts)])


def _under(*names: str) -> Callable[[Facts], Found | None]:
    """The question whether the host is a VM of one of these hypervisors."""

    def ask(facts: Facts) -> Found | None:
        if not hypervisor(facts).startswith(names):
            return None
        return Found([*hypervisor_text(facts), *no_svm_lines(facts)])

    return ask


def kvm_guest(facts: Facts) -> Found | None:
    """By CPUID, or by DMI where QEMU shows a Windows guest the name of Hyper-V, or hides the hypervisor."""
    name = hypervisor(facts)
    by_dmi = re.search(r"\bQEMU\b|\bKVM\b", product(facts)) and name in ("", "Microsoft Hv")
    if not name.startswith(("KVMKVMKVM", "Linux KVM Hv")) and not by_dmi:
        return None
    shown = [f"/sys/class/dmi/id: {product(facts)}"] if by_dmi and name else []
    return Found([*hypervisor_text(facts), *shown, *no_svm_lines(facts)])


def any_vm(facts: Facts) -> Found | None:
    if not in_vm(facts):
        return None
    name = hypervisor(facts)
    return Found([*hypervisor_text(facts), *no_svm_lines(facts)], name=f" ({name})" if name else "")


def bare_metal(facts: Facts) -> Found | None:
    number = family(facts)
    if in_vm(facts) is not False or number is None or number < _FIRST_FAMILY_WITH_SVM_IN_ALL:
        return None
    return Found([f"CPU family {number:#x}, no hypervisor by CPUID", *no_svm_lines(facts)])


def old_cpu(facts: Facts) -> Found | None:
    number = family(facts)
    if in_vm(facts) is not False or number is None:
        return None
    return Found([f"CPU family {number:#x}", *no_svm_lines(facts)])


CAUSES = (
    Cause(
        "wsl1-without-kvm",
        (*_REASONS, "kvm-amd-not-loaded", "kvm-device-missing", "msr-unreadable"),
        "The host is WSL 1, in which no Linux kernel runs, and so no KVM.",
        wsl1,
        (
            "WSL 1 has no KVM. In PowerShell, turn the distribution into one of WSL 2 (wsl -l shows its name):",
            "$ wsl --set-version NAME 2",
        ),
    ),
    *xen_domain.CAUSES,
    Cause(
        "wsl2-without-nested-svm",
        _REASONS,
        "The kernel is that of WSL2, whose virtual machine was not given SVM.",
        wsl,
        (
            "In Windows 11 (10 cannot nest on AMD), write these two lines to %UserProfile%\\.wslconfig:",
            "$ [wsl2]",
            "$ nestedVirtualization=true",
            "Then, in PowerShell, stop WSL; its next start uses them:",
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
            "If the VM has the security type 'Trusted Launch', change it to 'Standard': that can be the obstacle, too.",
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
        kvm_guest,
        (
            "On the machine that runs this VM, check whether kvm_amd allows nested virtualization (1 or Y):",
            "$ cat /sys/module/kvm_amd/parameters/nested",
            "If it is 0, end all VMs there, and load kvm_amd again:",
            "$ sudo modprobe -r kvm_amd",
            "$ sudo modprobe kvm_amd nested=1",
            (
                "Give the VM the host's CPU: QEMU -cpu host (or -cpu MODEL,+svm); libvirt, in virsh edit VM: <cpu "
                "mode='host-passthrough'/>; Proxmox: qm set VMID --cpu host."
            ),
            "Power the VM off and on: a reboot from inside does not change its CPU.",
            "If this is a cloud instance, use an instance type with nested virtualization, or bare metal.",
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
            "On a Windows host, turn off Hyper-V and memory integrity, too. Then power the VM on.",
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
        {"name": ""},
    ),
    Cause(
        "svm-filtered-on-bare-metal",
        _REASONS,
        "CPUID shows no hypervisor and no SVM, on a CPU of family 0x10 or later. Every such CPU has SVM: something "
        "filters it.",
        bare_metal,
        (
            (
                "Every AMD CPU of this family has SVM, so something hides it: firmware that masks the CPUID bit, "
                "or a hypervisor that hides itself. Check whether this is a VM:"
            ),
            "# systemd-detect-virt --vm",
            "If it is not, update the firmware.",
            *FIRMWARE_SETUP,
            "Enable 'SVM Mode' (AMD-V) in the firmware's setup and save.",
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
