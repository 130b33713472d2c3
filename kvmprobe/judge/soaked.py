"""What came of many cycles."""

from __future__ import annotations

from kvmprobe.judge.check import FAIL, PASS, UNKNOWN, WARN, Result
from kvmprobe.judge.facts import Facts


def done(facts: Facts) -> bool:
    """Whether there were any: without a first VM there are none, and the other checks say why."""
    return "soak" in facts.evidence and facts.evidence["soak"]["cycles"] > 0


def cycles(facts: Facts) -> Result:
    """A failure has the reason that it was given when it was seen."""
    soak = facts.evidence["soak"]
    told = f"{soak['cycles']} cycles in {soak['seconds']:.1f} s"
    told += "".join(f", {count} times {step}" for step, count in soak["steps"].items())
    if soak["failed"] and not soak["failures"]:
        return Result(FAIL, f"{told}: {soak['failed']} failed, and none was kept", "interfered")
    if soak["failures"]:
        first = soak["failures"][0]
        message = f"{told}: {soak['failed']} failed, first in cycle {first['cycle']} ({first['step']}): {first['what']}"
        return Result(FAIL, message, first["reason"])
    if soak["interfered"]:
        told += f"; {soak['interfered']} of them say nothing, because of others' VMs"
    if soak["interfered"] == soak["cycles"]:
        return Result(UNKNOWN, told, "interfered")
    if soak["limits"]:
        return Result(WARN, f"{told}; not done: {'; '.join(soak['limits'])}")
    return Result(WARN if soak["interfered"] else PASS, f"{told}, none failed")
