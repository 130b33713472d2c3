"""What the evidence shows of VMs of other processes, and whether kvmprobe could see them."""

from __future__ import annotations

from kvmprobe.judge.facts import Facts
from kvmprobe.model.values import as_int

_CAP_SYS_PTRACE = 19  # include/uapi/linux/capability.h


def others_after(facts: Facts) -> str | None:
    """What shows that other VMs may be alive when ours is gone, for people."""
    events = facts.foreign_events()
    if events:
        names = {f"{event['comm'] or '?'}[{event['pid']}]" for event in events}
        return f"KVM's uevents show VMs of {', '.join(sorted(names))} coming or going"
    return facts.other_vms()


def sees_all_processes(facts: Facts) -> bool:
    """Whether kvmprobe was root on the host, with all that it takes to see which files other processes have open.

    Root in a container sees only the processes of the container; root without CAP_SYS_PTRACE, as in a unit of systemd
    that drops it, sees no files of others (proc_fd_permission() in fs/proc/fd.c, ptrace_may_access()).
    """
    evidence = facts.evidence
    if evidence["host"]["euid"] != 0 or "rights" not in evidence or "surroundings" not in evidence:
        return False
    rights = evidence["rights"]
    mask = as_int(rights["capabilities"])
    may_trace = mask is not None and bool(mask >> _CAP_SYS_PTRACE & 1)
    return may_trace and rights["user_namespace"] is False and evidence["surroundings"]["container"] is None
