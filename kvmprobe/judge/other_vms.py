"""What the evidence shows of VMs of other processes, and whether kvmprobe could see them."""

from __future__ import annotations

from kvmprobe.judge.capabilities import CAP_SYS_PTRACE, has_capability
from kvmprobe.judge.facts import Facts
from kvmprobe.model.printable import process_text


def others_after(facts: Facts) -> str | None:
    """What shows that other VMs may be alive when ours is gone, for people."""
    events = facts.foreign_events()
    if events:
        names = {process_text(event["comm"], event["pid"]) for event in events}
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
    is_in_container = evidence["surroundings"]["container"] is not None
    may_trace = has_capability(rights, CAP_SYS_PTRACE) is True
    return may_trace and rights["user_namespace"] is False and not is_in_container
