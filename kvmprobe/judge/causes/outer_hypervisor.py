"""In a VM: SVM that the hypervisor outside offers and does not carry out."""

from __future__ import annotations

from kvmprobe.judge.causes.cause import Cause, Found
from kvmprobe.judge.causes.quotes import from_log, hypervisor_text, in_vm, log_matches
from kvmprobe.judge.causes.steps import OUTSIDE
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import cpu_names, fold

_WRITE_REFUSED = r"unchecked MSR access error: WRMSR to 0xc0000080\b"
_UNTIL_THEN = "Until then, run VMs on bare metal or under another hypervisor."


def _without_svme(facts: Facts) -> list[str]:
    """That KVM ran its enabling function on CPUs where EFER.SVME is 0: VM_HSAVE_PA, written right after it, is set."""
    efer, hsave = facts.register("created", "EFER"), facts.register("created", "VM_HSAVE_PA")
    clear = [cpu for cpu, value in facts.svme("created").items() if value is False and hsave[cpu]]
    if not clear:
        return []
    return [
        (
            f"EFER = {fold({cpu: efer[cpu] for cpu in clear})} on {cpu_names(clear)} after KVM_CREATE_VM, although "
            "KVM wrote VM_HSAVE_PA there"
        )
    ]


def refuses_svme(facts: Facts) -> Found | None:
    logged = [match.string for match in log_matches(facts, _WRITE_REFUSED)]
    return Found([*from_log(*logged), *_without_svme(facts), *hypervisor_text(facts)]) if logged else None


def loses_svme(facts: Facts) -> Found | None:
    return Found([*hypervisor_text(facts), *_without_svme(facts)]) if in_vm(facts) else None


def runs_guest_wrongly(facts: Facts) -> Found | None:
    return Found(hypervisor_text(facts)) if in_vm(facts) else None


CAUSES = (
    Cause(
        "hypervisor-refuses-svme",
        ("svme-not-set",),
        "The kernel wrote EFER.SVME and the write was refused (the log has 'unchecked MSR access error'): the "
        "hypervisor outside does not let this VM switch SVM on, although it shows the SVM bit.",
        refuses_svme,
        (
            (
                "The hypervisor outside refuses EFER.SVME; the kernel in this VM is not at fault. "
                f"{OUTSIDE} to update it, and to enable nested virtualization on AMD (nested SVM) for this VM, if it "
                f"supports that. {_UNTIL_THEN}"
            ),
        ),
    ),
    Cause(
        "hypervisor-loses-svme",
        ("svme-not-set",),
        "In this VM KVM enabled SVM, and EFER.SVME reads 0: the hypervisor outside dropped the write, or lost it "
        "later.",
        loses_svme,
        (
            (
                "Most likely the hypervisor outside drops EFER.SVME, which this VM's kernel wrote. "
                f"{OUTSIDE} to update it, and to enable nested virtualization on AMD (nested SVM) for this VM, if it "
                f"supports that. {_UNTIL_THEN}"
            ),
        ),
    ),
    Cause(
        "hypervisor-runs-guest-wrongly",
        ("guest-failed",),
        "The host is a VM, and the guest in it failed: nested SVM is the work of the hypervisor outside.",
        runs_guest_wrongly,
        (
            (
                "The host is a VM: the hypervisor outside runs VMRUN for it (nested SVM), and is the first suspect. "
                f"{OUTSIDE} to update it, and ask whether it supports nested virtualization on AMD. {_UNTIL_THEN}"
            ),
            "Report a defect of that hypervisor to its developers, with this file:",
            "# kvmprobe -o report.json",
        ),
    ),
)
