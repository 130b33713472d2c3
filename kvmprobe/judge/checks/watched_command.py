"""What did a watched command do, and does kvmprobe's own guest report what ptrace observed?"""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, WARN, Result
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import cpu_names, fold
from kvmprobe.model.values import as_int, error_of

if TYPE_CHECKING:
    from kvmprobe.model.command_evidence import OwnView, Watch
    from kvmprobe.model.evidence import Answer


_NO_VM_HINT = "Watch a command that creates a VM, or kvmprobe's own guest: `kvmprobe watch`."
_ATTACHED_HINT = "Attach before the process creates its VM, or let kvmprobe start it: `kvmprobe watch -- COMMAND`."


def ending(watch: Watch) -> str:
    """How the command ended, for people."""
    if watch["ended"] == "detached":
        return "it is still running"
    how = "exited with status" if watch["ended"] == "exited" else "was killed by signal"
    return f"it {how} {watch['status']}"


def created_no_vm(watch: Watch) -> Result:
    """The result of the step that a watched command did not reach: no VM of it was seen."""
    begun = any(call["name"] == "KVM_CREATE_VM" for call in watch["calls"])
    attached = watch["command"] is None and not watch["own"] and not begun
    if attached:
        what = "the process did not call KVM_CREATE_VM while it was watched"
    elif begun:
        what = "the command's KVM_CREATE_VM did not return"
    else:
        what = "the command did not call KVM_CREATE_VM"
    calls = ", ".join(call["name"] for call in watch["calls"]) or "none"
    hint = _ATTACHED_HINT if attached else _NO_VM_HINT
    because = [f"calls of KVM: {calls}", f"process {watch['pid']}: {ending(watch)}"]
    return Result(UNKNOWN, f"{what}; {ending(watch)}", "vm-not-created", hint, because)


def watched_command(facts: Facts) -> Result:
    """Stands for no function of the kernel: two observers, ptrace and kvmprobe's own guest.

    Reads the calls that ptrace observed and, of kvmprobe's own guest, its answers and its snapshots.
    Reasons, of kvmprobe's own guest only: observers-disagree; guest-not-run where it ended before it reported;
    svme-owner-unknown where registers differ and KVM's uevents are missing.
    """
    watch = facts.watch
    if watch is None:
        return Result(SKIP, "no command was watched")
    if watch["own"]:
        return _own(facts, watch)
    counts: dict[str, int] = {}
    for call in watch["calls"]:
        counts[call["name"]] = counts.get(call["name"], 0) + 1
    if not counts:
        return Result(SKIP, f"the command called no ioctl of KVM; {ending(watch)}")
    called = ", ".join(name if count == 1 else f"{name} ({count} times)" for name, count in counts.items())
    return Result(PASS, f"observed {called}; {ending(watch)}")


def _own(facts: Facts, watch: Watch) -> Result:
    own = watch["said"]
    if own is None:
        message = f"kvmprobe's own guest ended before it reported; {ending(watch)}"
        return Result(UNKNOWN, message, "guest-not-run", because=[f"process {watch['pid']}: {ending(watch)}"])
    answers = list(_other_answers(facts, watch, own))
    registers = list(_other_registers(facts, own))
    if not answers and not registers:
        return Result(PASS, "kvmprobe's own guest and ptrace agree")
    differences = answers + registers
    message = f"kvmprobe's own guest and ptrace disagree: {'; '.join(differences)}"
    if answers:
        return Result(FAIL, message, "observers-disagree", because=differences)
    if facts.foreign_events() or facts.other_vms() or facts.came_or_went:
        return Result(WARN, f"{message}; other VMs or CPUs came and went meanwhile")
    if facts.evidence["uevents"]["source"] is None:
        message += "; without KVM's uevents the cause is unknown"
        return Result(UNKNOWN, message, "svme-owner-unknown", because=[*differences, "KVM's uevents: none"])
    return Result(FAIL, message, "observers-disagree", because=differences)


def _other_answers(facts: Facts, watch: Watch, own: OwnView) -> Iterator[str]:
    seen = facts.evidence["ioctls"]
    pairs = (
        ("KVM_GET_API_VERSION", own["ioctls"]["KVM_GET_API_VERSION"], seen["KVM_GET_API_VERSION"]),
        ("KVM_CREATE_VM", own["ioctls"]["KVM_CREATE_VM"], seen["KVM_CREATE_VM"]),
    )
    for name, inside, outside in pairs:
        if inside != outside:
            yield f"{name} = {_answer(inside)} by the guest, {_answer(outside)} by ptrace"
    ran = any(run["result"] == "ok" for run in own["guest"])
    if ran and not any(call["name"] == "KVM_RUN" for call in watch["calls"]):
        yield "the guest ran, and ptrace observed no KVM_RUN"


def _answer(answer: Answer) -> str:
    return "unknown" if answer is None else error_of(answer) or str(answer)


def _other_registers(facts: Facts, own: OwnView) -> Iterator[str]:
    for snapshot in own["snapshots"]:
        phase = snapshot["phase"]
        for name in ("EFER", "VM_CR"):
            outside = facts.register(phase, name)
            inside = {cpu: as_int(snapshot["cpus"].get(str(cpu), {}).get(name)) for cpu in outside}
            differ = [cpu for cpu in outside if None not in (inside[cpu], outside[cpu]) and inside[cpu] != outside[cpu]]
            if differ:
                inner, outer = ({cpu: values[cpu] for cpu in differ} for values in (inside, outside))
                yield f"{phase}: {name} on {cpu_names(differ)} = {fold(inner)} by the guest, {fold(outer)} by ptrace"
