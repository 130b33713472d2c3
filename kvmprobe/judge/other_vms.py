"""What the evidence shows of VMs of other processes at the end of the probe."""

from __future__ import annotations

from kvmprobe.judge.facts import Facts


def others_after(facts: Facts) -> str | None:
    """What shows that other VMs may be alive when ours is gone, for people."""
    events = facts.foreign_events()
    if events:
        names = {f"{event['comm'] or '?'}[{event['pid']}]" for event in events}
        return f"KVM's uevents show VMs of {', '.join(sorted(names))} coming or going"
    return facts.other_vms()
