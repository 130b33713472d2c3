"""What did many cycles of creating and closing a VM give?"""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import FAIL, PASS, UNKNOWN, WARN, Result
from kvmprobe.judge.facts import Facts
from kvmprobe.model.reasons import REASONS

if TYPE_CHECKING:
    from kvmprobe.model.command_evidence import Soak, SoakFailure


def soak_cycles(facts: Facts) -> Result:
    """Stands for every function that a cycle runs through, from kvm_create_vm() to kvm_destroy_vm().

    Reads the counts of `soak`, and its failures, each with the reason that it got when it was observed.
    Reasons: that of the first failure that decides; observers-disagree where the counts contradict the list of
    failures; soak-step-not-done where a step that was asked for was never done; interfered where other processes' VMs
    disturbed every cycle.
    """
    soak = facts.evidence["soak"]
    text = f"{soak['cycles']} cycle{'' if soak['cycles'] == 1 else 's'} in {soak['seconds']:.1f} s"
    text += "".join(f", {count} times {step}" for step, count in soak["steps"].items())
    if soak["failures"]:
        return _failed(soak, text)
    if soak["failed"]:
        message = f"{text}: {soak['failed']} failed, and the list of failures is empty"
        return Result(FAIL, message, "observers-disagree", because=[f"failed = {soak['failed']}", "failures: none"])
    if soak["interfered"]:
        text += f"; {soak['interfered']} of them disturbed by other processes' VMs"
    if soak["interfered"] == soak["cycles"]:
        return Result(UNKNOWN, text, "interfered", because=[f"disturbed cycles = {soak['interfered']}"])
    undone = [step for step, count in soak["steps"].items() if not count]
    if undone:
        text += f"; not done: {'; '.join(soak['limits']) or ', '.join(undone)}"
        return Result(UNKNOWN, text, "soak-step-not-done", because=[f"{step}: done 0 times" for step in undone])
    if soak["limits"]:
        return Result(WARN, f"{text}; not done: {'; '.join(soak['limits'])}")
    return Result(WARN if soak["interfered"] else PASS, f"{text}, none failed")


def _failed(soak: Soak, text: str) -> Result:
    """A failure decides before one that shows only that something could not be read."""
    failures = soak["failures"]
    failure = next((one for one in failures if REASONS[one["reason"]].status == "failed"), failures[0])
    inconclusive = REASONS[failure["reason"]].status == "inconclusive"
    message = f"{text}: {soak['failed']} failed; {_name(failure)}"
    because = [_name(one) for one in failures[:3]]
    return Result(UNKNOWN if inconclusive else FAIL, message, failure["reason"], because=because)


def _name(failure: SoakFailure) -> str:
    return f"cycle {failure['cycle']} ({failure['step']}): {failure['what']}"
