"""A check CPU by CPU, where it found the CPUs to differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check import FAIL, PASS, SKIP, UNKNOWN, Result
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import group

if TYPE_CHECKING:
    from typing import Any

    from kvmprobe.judge.check import Check
    from kvmprobe.model.evidence import Evidence


def results(check: Check, found: Mapping[str, Any], reason: str, facts: Facts) -> dict[int, Result]:
    """What the check gives for each CPU alone; nothing where all CPUs are alike in it or it says nothing of CPUs.

    `found` is what the report says of the check, `reason` the verdict's.
    """
    if found["status"] == SKIP:
        return {}
    if reason == "svm-held-by-another-owner" and check.id in _HELD and found["status"] == FAIL:
        before = facts.svme("before")
        values: Mapping[int, object] = before
        judged = {cpu: _HELD_RESULTS[value] for cpu, value in before.items()}
    elif check.id in _VALUES:
        values = _VALUES[check.id](facts)
        judged = {cpu: check.judge(Facts(only(facts.evidence, cpu))) for cpu in values}
    else:
        return {}
    return judged if len(group(values)) > 1 else {}


def only(evidence: Evidence, cpu: int) -> Evidence:
    """The evidence as if that CPU were the machine's only one."""
    cpu = int(cpu)  # 1.0 is an integer to JSON Schema
    cpus = evidence["cpus"]
    snapshots = [
        {**snapshot, "cpus": {name: registers for name, registers in snapshot["cpus"].items() if name == str(cpu)}}
        for snapshot in evidence["snapshots"]
    ]
    return {
        **evidence,
        "cpus": {**cpus, "online": str(cpu), "online_at_end": None},
        "snapshots": snapshots,  # type: ignore[typeddict-item]  # {**snapshot} is a plain dict to mypy
        "guest": [run for run in evidence["guest"] if run["cpu"] == cpu],
    }


def _guests(facts: Facts) -> dict[int, str]:
    return {run["cpu"]: run["result"] for run in facts.evidence["guest"] if run["cpu"] in facts.cpus}


# What a check says of each CPU: where it differs, so do the CPUs. Not among them is cpus-agree, which needs them all.
_VALUES: dict[str, Callable[[Facts], Mapping[int, object]]] = {
    "vendor": Facts.vendors,
    "extended-leaf": Facts.highest_extended,
    "svm-bit": Facts.svm,
    "cpuinfo-flag": Facts.svm_flag,
    "firmware": lambda facts: facts.shown("before", "VM_CR"),
    "svme": lambda facts: facts.shown("created", "EFER"),
    "guest": _guests,
    "release": lambda facts: facts.shown("closed", "EFER"),
}

# The checks that fail where SVM is held by somebody else, and which CPUs are to blame.
_HELD = ("kvm-amd", "kvm-device", "create-vm")
_HELD_RESULTS = {
    True: Result(FAIL, "EFER.SVME was 1 before KVM set it"),
    False: Result(PASS, "EFER.SVME was 0"),
    None: Result(UNKNOWN, "EFER could not be read"),
}
