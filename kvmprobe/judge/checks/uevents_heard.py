"""Do KVM's uevents show the VM that was created and closed?"""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, WARN, Result
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import text_of

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Uevent

_MOST_PIDS = 1 << 22  # PID_MAX_LIMIT (include/linux/threads.h)


def uevents_heard(facts: Facts) -> Result:
    """kvm_uevent_notify_change() in virt/kvm/kvm_main.c: one uevent for each VM created, and one for each destroyed.

    Reads KVM's uevents and the answer of KVM_CREATE_VM. A user namespace hears none, so there silence shows nothing.
    Reason: observers-disagree.
    """
    uevents = facts.evidence["uevents"]
    if uevents["source"] is None:
        return Result(SKIP, f"KVM's uevents were not received: {uevents['error'] or 'unknown why'}")
    if facts.evidence.get("soak", {}).get("failures"):
        return Result(SKIP, "the uevents are those of the cycle that failed")
    faults = list(_faults(facts))
    if not faults:
        counts = ", ".join(f"{event['event']} (COUNT {_text(event['count'])})" for event in _own(facts))
        return Result(PASS, f"our VM: {counts}")
    message = f"KVM's uevents contradict KVM_CREATE_VM: {'; '.join(faults)}"
    if facts.foreign_events():
        return Result(WARN, f"{message}; VMs of other processes came and went meanwhile")
    if not uevents["events"] and _may_be_deaf(facts):
        return Result(UNKNOWN, "no uevent of KVM was received; the kernel sends none to a user namespace")
    return Result(FAIL, message, "observers-disagree", because=["KVM_CREATE_VM: ok", *faults])


def _may_be_deaf(facts: Facts) -> bool:
    """uevent_net_broadcast_untagged() in lib/kobject_uevent.c; older evidence does not have the namespace."""
    return "rights" not in facts.evidence or facts.evidence["rights"]["user_namespace"] is not False


def _own(facts: Facts) -> list[Uevent]:
    found = (facts.own_event(name) for name in ("create", "destroy"))
    return [event for event in found if event]


def _faults(facts: Facts) -> Iterator[str]:
    """What cannot be right. What a uevent does not have, or what was not read, is no fault."""
    created, destroyed = facts.own_event("create"), facts.own_event("destroy")
    if created is None:
        yield "no uevent of a VM that was created"
    elif destroyed is None and facts.has_snapshot("closed") and not facts.watch:
        yield "no uevent of the VM that was closed"
    for event in facts.evidence["uevents"]["events"]:
        count, total, pid = event["count"], event["created"], event["pid"]
        least = 1 if event["event"] == "create" else 0
        if count is not None and (count < least or (total is not None and count > total)):
            yield f"{event['event']}: COUNT = {_text(count)}, CREATED = {_text(total)}"
        if pid is not None and not 0 < pid <= _MOST_PIDS:
            yield f"{event['event']}: PID = {pid}"
    alive, left = (event["count"] if event else None for event in (created, destroyed))
    if alive is not None and left is not None and left != alive - 1:
        yield f"COUNT was {alive} with our VM and {left} after it"


def _text(number: int | None) -> str:
    return text_of(None) if number is None else str(number)
