"""A guest in a guest failed, or could not be tried: what KVM offers to guests, and how far the guests came."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.causes.cause import Cause, Found
from kvmprobe.judge.causes.quotes import hypervisor_text, in_vm, is_built_in, module, parameters
from kvmprobe.judge.causes.steps import OUTSIDE
from kvmprobe.judge.facts import Facts
from kvmprobe.model.nested_rules import DEADLINE, EXIT_CODE, REGISTERS, STOPPED, SUM, VMRUN, kind_of, offers_svm
from kvmprobe.model.own_errors import is_own_error
from kvmprobe.model.values import error_of

if TYPE_CHECKING:
    from typing import Callable

_FAILED = ("nested-guest-failed",)
_OFF = ("0", "N")  # kvm_amd.nested is a number; a kernel may make it a truth value

_LOAD_WITH_NESTED = (
    "End all VMs, and load kvm_amd again with nested=1:",
    "# modprobe -r kvm_amd",
    "# modprobe kvm_amd nested=1",
    (
        "To keep it so, remove nested=0 from the files in /etc/modprobe.d, and kvm_amd.nested=0 from the kernel's "
        "command line."
    ),
)
_BOOT_WITH_NESTED = (
    "kvm_amd is built into the kernel. Remove kvm_amd.nested=0 from the kernel's command line, and reboot:",
    "# systemctl reboot",
)
_SEND = "# kvmprobe --nested -o report.json"
_REPORT = (
    (
        "Do not run VMs in VMs on this host. Install the newest kernel and microcode, and reboot. If that does not "
        "help, send the file that this command writes to your distribution or kvm@vger.kernel.org:"
    ),
    _SEND,
)
_IN_VM = (
    f"Boot the newest kernel in this VM: it, or the hypervisor, is at fault. {OUTSIDE} to update it.",
    "Until then, do not run VMs in VMs here. Send the file that this command writes to the developers:",
    _SEND,
)


def off_by_parameter(facts: Facts) -> Found | None:
    found = module(facts, "kvm_amd")
    value = found["parameters"].get("nested") if found else None
    if not _is_not_offered(facts) or value not in _OFF:
        return None
    given = [f"kernel command line: {text}" for text in parameters(facts) if text.startswith("kvm_amd.nested=")]
    return Found([f"kvm_amd.nested = {value}", *given], _BOOT_WITH_NESTED if is_built_in(facts, "kvm_amd") else None)


def not_offered(facts: Facts) -> Found | None:
    return Found(hypervisor_text(facts)) if _is_not_offered(facts) else None


def _is_not_offered(facts: Facts) -> bool:
    nested = facts.evidence.get("nested")
    return nested is not None and offers_svm(nested) is False


def _failed_by(kind: str) -> Callable[[Facts], Found | None]:
    """The question whether some run failed in this way. What it showed the check quotes itself."""

    def ask(facts: Facts) -> Found | None:
        nested = facts.evidence.get("nested")
        runs = [run for of_paging in (nested["runs"] if nested else {}).values() for run in of_paging]
        if kind not in map(kind_of, runs):
            return None
        return Found(hypervisor_text(facts), _IN_VM if in_vm(facts) else None)

    return ask


def not_permitted(facts: Facts) -> Found | None:
    nested = facts.evidence.get("nested")
    error = error_of(nested["supported_cpuid"]) if nested else None
    return Found([]) if is_own_error("KVM_GET_SUPPORTED_CPUID", error) else None


CAUSES = (
    Cause(
        "nested-off-by-parameter",
        _FAILED,
        "kvm_amd.nested is 0, so KVM does not offer SVM to guests.",
        off_by_parameter,
        _LOAD_WITH_NESTED,
    ),
    Cause(
        "nested-not-offered",
        _FAILED,
        "KVM_GET_SUPPORTED_CPUID has no SVM bit, and kvm_amd.nested does not show why.",
        not_offered,
        (
            (
                "This kernel does not offer SVM to guests. Install the newest kernel of your distribution, whose "
                "kvm_amd has nested=1 by default, and reboot."
            ),
        ),
    ),
    Cause(
        "nested-registers-refused",
        _FAILED,
        "The outer guest got an exception where it read EFER, set EFER.SVME or wrote VM_HSAVE_PA, or SVME did not stay "
        "set. KVM injects #GP where the guest's CPUID has no SVM bit (svm_set_msr(), kvm_set_efer()).",
        _failed_by(REGISTERS),
        _REPORT,
    ),
    Cause(
        "nested-vmrun-refused",
        _FAILED,
        "The outer guest got an exception at VMRUN. KVM injects #UD where EFER.SVME is 0 or paging is off "
        "(nested_svm_check_permissions()), and #GP where the address of the VMCB is wrong or VM_HSAVE_PA is 0.",
        _failed_by(VMRUN),
        _REPORT,
    ),
    Cause(
        "nested-wrong-exit-code",
        _FAILED,
        "The inner guest left with another exit code than those of VMMCALL (0x81) and HLT (0x78).",
        _failed_by(EXIT_CODE),
        _REPORT,
    ),
    Cause(
        "nested-wrong-sum",
        _FAILED,
        "The inner guest left as it must, and its sum is wrong.",
        _failed_by(SUM),
        _REPORT,
    ),
    Cause(
        "nested-deadline",
        _FAILED,
        "The guests did not come to an end within their deadline.",
        _failed_by(DEADLINE),
        _REPORT,
    ),
    Cause(
        "nested-run-failed",
        _FAILED,
        "KVM refused an ioctl for the outer guest, or KVM_RUN ended in a way that its program does not cause.",
        _failed_by(STOPPED),
        _REPORT,
    ),
    Cause(
        "nested-ioctl-refused",
        ("nested-guest-not-run",),
        "This process was refused KVM_GET_SUPPORTED_CPUID, or has too little of a resource for it.",
        not_permitted,
        ("A sandbox or security module refuses ioctls of KVM to this process. Run kvmprobe outside of it.",),
    ),
)
