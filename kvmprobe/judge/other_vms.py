"""What the evidence shows of VMs of other processes, and whether kvmprobe could see them."""

from __future__ import annotations

from kvmprobe.judge.facts import Facts


def others_after(facts: Facts) -> str | None:
    """What shows that other VMs may be alive when ours is gone, for people."""
    events = facts.foreign_events()
    if events:
        names = {f"{event['comm'] or '?'}[{event['pid']}]" for event in events}
        return f"KVM's uevents show VMs of {', '.join(sorted(names))} coming or going"
    return facts.other_vms()


def sees_all_processes(facts: Facts) -> bool:
    """Whether kvmprobe was root on the host: root in a container sees only the processes of the container."""
    evidence = facts.evidence
    has_rights = "rights" in evidence and evidence["rights"]["user_namespace"] is False
    in_container = "surroundings" not in evidence or evidence["surroundings"]["container"] is not None
    return evidence["host"]["euid"] == 0 and has_rights and not in_container
