"""The host is itself a confidential VM, where kvm_amd refuses: SEV guests cannot nest."""

from __future__ import annotations

from kvmprobe.judge.causes.cause import Cause, Found
from kvmprobe.judge.causes.quotes import from_log, hypervisor, hypervisor_text
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.kernel_lines import sev_lines
from kvmprobe.model.registers import CPUID_SEV

_REASONS = ("sev-guest",)


def _because(facts: Facts) -> list[str]:
    status = facts.evidence["cpus"]["sev_status"]
    register = [f"SEV_STATUS = {status}"] if isinstance(status, str) else []
    return register + from_log(*sev_lines(facts)) + hypervisor_text(facts)


def behind_paravisor(facts: Facts) -> Found | None:
    hidden = not any(facts.cpuid_bit(CPUID_SEV).values())
    if not hidden or not hypervisor(facts).startswith("Microsoft Hv"):
        return None
    return Found([*_because(facts), "CPUID 0x8000001F shows no SEV"])


def confidential(facts: Facts) -> Found | None:
    return Found(_because(facts))


CAUSES = (
    Cause(
        "confidential-vm-behind-paravisor",
        _REASONS,
        "The host is a confidential VM of Hyper-V or Azure. A paravisor below the kernel hides SEV from CPUID; the "
        "kernel's log shows it.",
        behind_paravisor,
        (
            (
                "This is a confidential VM, in which KVM cannot run VMs. Use a VM size without confidential "
                "computing that supports nested virtualization (in Azure not DC or EC sizes, and not security type "
                "Confidential), or bare metal."
            ),
        ),
    ),
    Cause(
        "confidential-vm",
        _REASONS,
        "The host is a memory-encrypted guest (SEV, SEV-ES or SEV-SNP).",
        confidential,
        (
            (
                "This is a confidential VM (SEV), in which KVM cannot run VMs. Use an instance type without "
                "memory encryption that supports nested virtualization, or bare metal."
            ),
        ),
    ),
)
