"""Is everything that KVM took for our VM returned?"""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import FAIL, PASS, UNKNOWN, WARN, Result
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.other_vms import others_after, sees_all_processes
from kvmprobe.model.printable import process_text

if TYPE_CHECKING:
    from kvmprobe.model.evidence import LeftBehind

_REASON = "resource-leaked"


def nothing_left(facts: Facts) -> Result:
    """kvm_destroy_vm() and kvm_vm_release() in virt/kvm/kvm_main.c.

    Reads the reference count of kvm_amd before and after the VM, who else has /dev/kvm or a VM open, and which of KVM's
    descriptors kvmprobe has since then; of a soak also what grew over its cycles. Reason: resource-leaked.
    """
    result = _after_one_vm(facts)
    if "soak" in facts.evidence and result.status != FAIL:
        from kvmprobe.judge.soak_growth import soak_growth  # only a soak pays for its import

        result = soak_growth(facts) or result
    return result


def _after_one_vm(facts: Facts) -> Result:
    left = facts.evidence["left_behind"]
    if left["descriptors"]:
        names = ", ".join(left["descriptors"])
        message = f"the VM is closed, and kvmprobe still has descriptors that KVM opened: {names}"
        return Result(FAIL, message, _REASON, because=[f"open descriptors: {names}"])
    before, after = left["references_before"], left["references_after"]
    if before is None or after is None:
        return _uncounted(facts)
    counts = f"kvm_amd had {before} reference{'' if before == 1 else 's'} before the VM and {after} after it"
    if after < 0:
        return Result(FAIL, f"{counts}: more were dropped than taken", _REASON, because=[counts])
    if after > before:
        return _more(facts, left, counts)
    if after < before:
        return Result(WARN, f"{counts}: another process has closed KVM")
    return Result(PASS, f"{counts}; no descriptor of KVM is left")


def _uncounted(facts: Facts) -> Result:
    kvm_amd = facts.modules.get("kvm_amd")
    if kvm_amd is not None and kvm_amd["state"] != "builtin":
        return Result(UNKNOWN, "the references to kvm_amd could not be read; no descriptor of KVM is left")
    why = "kvm_amd is not there" if kvm_amd is None else "kvm_amd is built in"
    return Result(PASS, f"no descriptor of KVM is left; {why}, so there are no references to count")


def _more(facts: Facts, left: LeftBehind, counts: str) -> Result:
    """Another process that uses KVM explains more references; where kvmprobe cannot see all, one may be hidden."""
    users = [process_text(user["comm"], user["pid"]) for user in left["users"] or ()]
    others = f"KVM is open in {', '.join(users)}" if users else others_after(facts)
    if others:
        return Result(WARN, f"{counts}; {others}")
    if left["users"] is None or not sees_all_processes(facts):
        return Result(WARN, f"{counts}; whether another process uses KVM cannot be seen from here")
    message = f"{counts}, and no process has KVM open"
    return Result(FAIL, message, _REASON, because=[counts, "processes with /dev/kvm or a VM open: none"])
