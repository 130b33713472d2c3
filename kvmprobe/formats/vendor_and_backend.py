"""What matters of a host without SVM: whose CPU it has, and what answers at /dev/kvm."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.cpu_lists import fold

if TYPE_CHECKING:
    from kvmprobe.judge.facts import Facts

_X86 = ("x86_64", "i686", "i586", "i386")  # as uname -m names machines whose CPUs have a vendor in CPUID


def vendor(facts: Facts) -> str:
    """ "GenuineIntel"; "unknown" with the kind of the machine where CPUID and /proc/cpuinfo have no vendor."""
    machine = facts.evidence["host"]["machine"]
    return fold(facts.vendors()) if machine in _X86 else f"unknown ({machine})"


def backend(facts: Facts) -> str:
    """ "kvm_intel", or why none is named."""
    if facts.backends():
        return ", ".join(facts.backends())
    if facts.vm_created:
        return "not in /sys/module"
    return "unknown" if facts.evidence["modules"] is None else "none loaded"
