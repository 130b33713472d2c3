"""A command that was watched: what can be said where it made no VM, and whether kvmprobe's own guest, seen from outside
by ptrace, is what it says itself."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check import FAIL, PASS, SKIP, UNKNOWN, WARN, Result
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import cpu_names, fold
from kvmprobe.model.values import as_int, error_of

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Answer, OwnView, Watch


_NO_VM_HINT = "Watch a command that makes a VM, or give none: kvmprobe watches its own guest then."
_ATTACHED_HINT = "Attach before it makes its VM, or have kvmprobe start it: kvmprobe watch -- COMMAND."


def applies(facts: Facts) -> bool:
    return facts.watch is not None


def ending(watch: Watch) -> str:
    """How the command ended, in words."""
    if watch["ended"] == "detached":
        return "it runs on"
    how = "exited with status" if watch["ended"] == "exited" else "was killed by signal"
    return f"it {how} {watch['status']}"


def without_vm(watch: Watch) -> Result:
    """For the step at which a watched command went another way."""
    begun = any(call["name"] == "KVM_CREATE_VM" for call in watch["calls"])
    if watch["command"] is None and not watch["own"] and not begun:
        what = "the process did not call KVM_CREATE_VM while it was watched"
        return Result(UNKNOWN, f"{what}; {ending(watch)}", "interfered", _ATTACHED_HINT)
    what = "the command's KVM_CREATE_VM did not return" if begun else "the command never called KVM_CREATE_VM"
    return Result(UNKNOWN, f"{what}; {ending(watch)}", "interfered", _NO_VM_HINT)


def watched(facts: Facts) -> Result:
    watch = facts.watch
    if watch is None:
        return Result(SKIP, "nothing was watched")
    if watch["own"]:
        return _own(facts, watch)
    counts: dict[str, int] = {}
    for call in watch["calls"]:
        counts[call["name"]] = counts.get(call["name"], 0) + 1
    if not counts:
        return Result(SKIP, f"nothing of KVM was called; {ending(watch)}")
    called = ", ".join(name if count == 1 else f"{name} ({count} times)" for name, count in counts.items())
    return Result(PASS, f"witnessed {called}; {ending(watch)}")


def _own(facts: Facts, watch: Watch) -> Result:
    said = watch["said"]
    if said is None:
        return Result(UNKNOWN, f"kvmprobe's own guest gave no answer; {ending(watch)}", "interfered")
    answers = list(_other_answers(facts, watch, said))
    registers = list(_other_registers(facts, said))
    if not answers and not registers:
        return Result(PASS, "what kvmprobe's own guest saw is what was witnessed from outside")
    message = f"kvmprobe's own guest and ptrace do not agree: {'; '.join(answers + registers)}"
    if answers:
        return Result(FAIL, message, "witnesses-disagree")
    others = facts.foreign_events() or facts.other_vms() or facts.gone
    if others:
        return Result(WARN, f"{message}; others' VMs or CPUs came and went meanwhile")
    if facts.evidence["uevents"]["source"] is None:
        return Result(UNKNOWN, f"{message}; without KVM's uevents it cannot be told why", "interfered")
    return Result(FAIL, message, "witnesses-disagree")


def _other_answers(facts: Facts, watch: Watch, said: OwnView) -> Iterator[str]:
    seen = facts.evidence["ioctls"]
    pairs = (
        ("KVM_GET_API_VERSION", said["ioctls"]["KVM_GET_API_VERSION"], seen["KVM_GET_API_VERSION"]),
        ("KVM_CREATE_VM", said["ioctls"]["KVM_CREATE_VM"], seen["KVM_CREATE_VM"]),
    )
    for name, own, outside in pairs:
        if own != outside:
            yield f"{name} = {_shown(own)} itself, {_shown(outside)} from outside"
    ran = any(run["result"] == "ok" for run in said["guest"])
    if ran and not any(call["name"] == "KVM_RUN" for call in watch["calls"]):
        yield "KVM_RUN was not seen from outside"


def _shown(answer: Answer) -> str:
    return error_of(answer) or str(answer)


def _other_registers(facts: Facts, said: OwnView) -> Iterator[str]:
    for snapshot in said["snapshots"]:
        phase = snapshot["phase"]
        for name in ("EFER", "VM_CR"):
            own = {cpu: as_int(snapshot["cpus"].get(str(cpu), {}).get(name)) for cpu in facts.cpus}
            outside = facts.register(phase, name)
            differ = [cpu for cpu in facts.cpus if None not in (own[cpu], outside[cpu]) and own[cpu] != outside[cpu]]
            if differ:
                inner, outer = ({cpu: values[cpu] for cpu in differ} for values in (own, outside))
                yield f"{phase}: {name} on {cpu_names(differ)} = {fold(inner)} itself, {fold(outer)} from outside"
