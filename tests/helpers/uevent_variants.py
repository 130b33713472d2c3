"""Evidence of KVM's uevents, changed: events that are missing, and numbers that cannot be right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.helpers.evidence_changes import SET, events_after_ours, in_a_container, no_uevents, with_rights_of_root
from tests.helpers.soak_variants import NOT_SET, SOAK, soak
from tests.helpers.trace_variants import CREATE
from tests.helpers.variants import AT_LOAD, BASE, Evidence, Variant, create_fails, each, register, svme_not_cleared

_WATCHED = "watch/bookworm-qemu"
_BAD, _GOOD = "observers-disagree", "svme-set-by-create-vm"
_NOT_CLEARED = "svme-not-cleared"


def no_events(evidence: Evidence) -> None:
    """The monitor listens and hears nothing, in the namespace of the host's users."""
    evidence["uevents"]["events"] = []
    with_rights_of_root(evidence)


def lost(index: int) -> Callable[[Evidence], None]:
    """Of our two uevents this one was not sent: 0 create, 1 destroy."""
    return lambda evidence: evidence["uevents"]["events"].pop(index)


def event(index: int, **fields: Any) -> Callable[[Evidence], None]:
    return lambda evidence: evidence["uevents"]["events"][index].update(fields)


def both(**fields: Any) -> Callable[[Evidence], None]:
    return each(event(0, **fields), event(1, **fields))


def in_user_namespace(value: Any) -> Callable[[Evidence], None]:
    return lambda evidence: evidence["rights"].update(user_namespace=value)


def pids_of_the_host(evidence: Evidence) -> None:
    with_rights_of_root(evidence)
    evidence["rights"]["pid_namespace"] = False


def destroyed_only(evidence: Evidence) -> None:
    evidence["uevents"]["events"] = [
        {"event": "destroy", "pid": 9, "comm": None, "ours": True, "count": 0, "created": 1, "phase": "closed"}
    ]


def destroyed_by_nobody(evidence: Evidence) -> None:
    """As a kernel that sends no uevent for a new VM: it stores the PID then."""
    destroyed_only(evidence)
    evidence["uevents"]["events"][0].update(pid=0, ours=False, count=2**64 - 1, created=0)


def without_rights(evidence: Evidence) -> None:
    del evidence["rights"]


UEVENTS: tuple[Variant, ...] = (
    ("uevents: none", BASE, no_events, _BAD),
    ("uevents: none, at load", AT_LOAD, no_events, _BAD),
    ("uevents: none in a trace", CREATE, no_events, _BAD),
    ("uevents: none, no monitor", BASE, each(no_events, no_uevents), _GOOD),
    ("uevents: none, user namespace", BASE, each(no_events, in_user_namespace(True)), _GOOD),
    ("uevents: none, namespace unknown", BASE, each(no_events, in_user_namespace({"error": "EACCES"})), _GOOD),
    ("uevents: none, evidence without rights", BASE, each(no_events, without_rights), _GOOD),
    ("uevents: no create", BASE, lost(0), _BAD),
    ("uevents: no create, user namespace", BASE, each(no_events, in_user_namespace(True), destroyed_only), _BAD),
    ("uevents: no destroy", BASE, lost(1), _BAD),
    ("uevents: no destroy, VMs came and went", BASE, each(lost(1), events_after_ours), _GOOD),
    ("uevents: no destroy, SVME stays", BASE, each(lost(1), register("closed", "EFER", SET)), _NOT_CLEARED),
    (
        "uevents: no destroy, SVME stays on cpu1",
        BASE,
        each(lost(1), register("closed", "EFER", SET, "1")),
        _NOT_CLEARED,
    ),
    ("uevents: no destroy, SVME stays, no create", BASE, each(no_events, svme_not_cleared), _BAD),
    ("uevents: no destroy, at load", AT_LOAD, lost(1), _BAD),
    ("uevents: no destroy of a watched command", _WATCHED, lost(1), _GOOD),
    ("uevents: none of a watched command", _WATCHED, no_events, _BAD),
    ("uevents: none, KVM_CREATE_VM failed", BASE, create_fails("EINVAL"), "create-vm-failed"),
    ("uevents: COUNT 2^64-1", BASE, event(1, count=2**64 - 1, created=0), _BAD),
    ("uevents: COUNT 2^64-1, VMs came and went", BASE, each(event(1, count=2**64 - 1), events_after_ours), _BAD),
    ("uevents: no create, so that the VM has no PID", BASE, destroyed_by_nobody, _BAD),
    ("uevents: COUNT 0 with our VM", BASE, both(count=0), _BAD),
    ("uevents: COUNT above CREATED", BASE, each(event(0, count=3, created=2), event(1, count=2, created=2)), _BAD),
    ("uevents: COUNT is CREATED", BASE, each(event(0, count=2, created=2), event(1, count=1, created=2)), "interfered"),
    ("uevents: CREATED unknown", BASE, both(created=None), _GOOD),
    ("uevents: COUNT does not fall", BASE, each(event(0, created=9), event(1, count=1, created=9)), _BAD),
    ("uevents: COUNT unknown at the end", BASE, event(1, count=None), _GOOD),
    ("uevents: COUNT unknown with our VM", BASE, event(0, count=None), _GOOD),
    ("uevents: PID 0", BASE, each(in_a_container, both(pid=0)), _BAD),
    ("uevents: highest PID", BASE, each(in_a_container, both(pid=1 << 22)), _GOOD),
    ("uevents: PID above the highest", BASE, each(in_a_container, both(pid=(1 << 22) + 1)), _BAD),
    ("uevents: PID unknown", BASE, each(in_a_container, both(pid=None)), _GOOD),
    ("uevents: another PID at the end", BASE, each(in_a_container, event(1, pid=7)), _GOOD),
    ("uevents: PID of another process", BASE, each(pids_of_the_host, both(pid=1, ours=False)), _BAD),
    ("uevents: PID of another process, container", BASE, both(pid=1, ours=False), _GOOD),
    ("uevents: PID of another process and ours", BASE, each(pids_of_the_host, events_after_ours), _GOOD),
    ("uevents: PID unknown, no container", BASE, each(pids_of_the_host, both(pid=None, ours=False)), _GOOD),
    ("uevents: PID of another process, watched", _WATCHED, each(pids_of_the_host, both(pid=1, ours=False)), _GOOD),
    ("uevents: none of a cycle that failed", SOAK, each(no_events, soak(failed=1, failures=[NOT_SET])), "svme-not-set"),
    ("uevents: none of a soak", SOAK, no_events, _BAD),
)
