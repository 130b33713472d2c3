"""Do KVM's uevents show the VM that was created and closed?"""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, WARN, Result
from kvmprobe.judge.checks.svme_released import stays_set
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import text_of

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Uevent

_NOT_DESTROYED = "no uevent of the VM that was closed"
_ALL_KEPT = 100  # So many uevents of a phase are in the evidence.
_MOST_PIDS = 1 << 22  # PID_MAX_LIMIT (include/linux/threads.h)


def uevents_heard(facts: Facts) -> Result:
    """kvm_uevent_notify_change() in virt/kvm/kvm_main.c: one uevent for each VM created, and one for each destroyed.

    Reads KVM's uevents and the answer of KVM_CREATE_VM. A user namespace hears none, so there silence shows nothing.
    Where SVME stays set after the VM was closed, a missing uevent of its end contradicts nothing: the check `release`
    fails. Reason: observers-disagree.
    """
    uevents = facts.evidence["uevents"]
    if uevents["source"] is None:
        return Result(SKIP, f"KVM's uevents were not received: {uevents['error'] or 'unknown why'}")
    if facts.evidence.get("soak", {}).get("failures"):
        return Result(SKIP, "the uevents are those of the cycle that failed")
    impossible = list(_impossible(facts))
    faults = [*_missing(facts), *impossible, *_counts(facts)]
    if not faults:
        counts = ", ".join(f"{event['event']} (COUNT {_text(event['count'])})" for event in _own(facts))
        return Result(PASS, f"our VM: {counts}")
    message = f"KVM's uevents contradict KVM_CREATE_VM: {'; '.join(faults)}"
    if facts.foreign_events() and not impossible:
        return Result(WARN, f"{message}; VMs of other processes came and went meanwhile")
    if faults == [_NOT_DESTROYED] and stays_set(facts):
        return Result(WARN, f"{_NOT_DESTROYED}; SVME stays set, so the VM may still exist")
    if not uevents["events"] and _may_be_deaf(facts):
        return Result(UNKNOWN, "no uevent of KVM was received; the kernel sends none to a user namespace")
    return Result(FAIL, message, "observers-disagree", because=["KVM_CREATE_VM: ok", *faults])


def _may_be_deaf(facts: Facts) -> bool:
    """uevent_net_broadcast_untagged() in lib/kobject_uevent.c; older evidence does not have the namespace."""
    return "rights" not in facts.evidence or facts.evidence["rights"]["user_namespace"] is not False


def _own(facts: Facts) -> list[Uevent]:
    found = (facts.own_event(name) for name in ("create", "destroy"))
    return [event for event in found if event]


def _missing(facts: Facts) -> Iterator[str]:
    """Which of the two uevents of our VM was not received."""
    if facts.own_event("create") is None:
        yield "no uevent of a VM that was created"
    elif facts.own_event("destroy") is None and facts.has_snapshot("closed") and not facts.watch:
        yield _NOT_DESTROYED


def _impossible(facts: Facts) -> Iterator[str]:
    """Numbers that cannot be right, whatever other processes do. What a uevent does not have is no fault."""
    for event in facts.evidence["uevents"]["events"]:
        count, total, pid = event["count"], event["created"], event["pid"]
        least = 1 if event["event"] == "create" else 0
        if count is not None and (count < least or (total is not None and count > total)):
            yield f"{event['event']}: COUNT = {_text(count)}, CREATED = {_text(total)}"
        if pid is not None and not 0 < pid <= _MOST_PIDS:
            yield f"{event['event']}: PID = {pid}"
    if _has_no_pid_of_ours(facts):
        pids = ", ".join(str(event["pid"]) for event in _created(facts))
        yield f"create: PID = {pids}, and none of them is kvmprobe's"


def _created(facts: Facts) -> list[Uevent]:
    return [event for event in facts.evidence["uevents"]["events"] if event["event"] == "create"]


def _has_no_pid_of_ours(facts: Facts) -> bool:
    """Whether uevents of new VMs came, none of them with the PID of this process, which the kernel knows by this PID.

    A kernel before 4.13 sends no PID. Of many uevents some are left out.
    """
    rights = facts.evidence.get("rights", {})
    created = _created(facts)
    if facts.watch or not facts.vm_created or rights.get("pid_namespace") is not False:
        return False
    return 0 < len(created) < _ALL_KEPT and all(event["pid"] and not event["ours"] for event in created)


def _counts(facts: Facts) -> Iterator[str]:
    """COUNT with our VM and after it, where they do not fit."""
    own = (facts.own_event(name) for name in ("create", "destroy"))
    alive, left = (event["count"] if event else None for event in own)
    if alive is not None and left is not None and left != alive - 1:
        yield f"COUNT was {alive} with our VM and {left} after it"


def _text(number: int | None) -> str:
    return text_of(None) if number is None else str(number)
