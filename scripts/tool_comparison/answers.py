"""The answers of the tools in a guest, and the rule that decides whether an answer is right.

kvmprobe/lab/scenarios.py states the truth of each scenario: `usable`, can KVM create VMs by SVM; and if not, `cause`,
a regular expression that matches the right cause. The truth must be written before any answer is looked at. The rule is
the same for all tools: right is "yes" where KVM is usable, and "no" with the right cause in the output where it is not.
"Unknown" is wrong in both cases.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kvmprobe.lab.scenarios import Scenario
from kvmprobe.model.verdict_status import EXIT_STATUS

TOOLS = ("kvm-ok", "virt-host-validate", "kvmprobe")

_KVM_OK = re.compile(r"acceleration can (NOT )?be used")
_VALIDATED = re.compile(r"Checking .*(?:hardware virtualization|/dev/kvm).*: (PASS|FAIL)")
_VERDICT = re.compile(r"([A-Z ]{6,} [a-z-]+)(?::|$)")


@dataclass(frozen=True)
class ToolOutput:
    """The exit status and the output of a tool."""

    status: int
    output: str


@dataclass(frozen=True)
class ToolAnswer:
    """The part of a tool's output that answers, on one line, and whether the answer is right."""

    text: str
    right: bool


def judge(scenario: Scenario, outputs: dict[str, ToolOutput]) -> dict[str, ToolAnswer]:
    """Returns the answer of each of TOOLS in a scenario. Without a tool in `outputs` its guest was lost."""
    answers = {}
    for tool in TOOLS:
        if tool not in outputs:
            answers[tool] = ToolAnswer("no answer: the guest was lost", False)
            continue
        status, output = outputs[tool].status, outputs[tool].output
        usable = is_usable(tool, status, output)
        if scenario.usable:
            right = usable is True
        else:
            right = usable is False and re.search(scenario.cause, output, re.IGNORECASE) is not None
        answers[tool] = ToolAnswer(_gist(tool, output), right)
    return answers


def is_usable(tool: str, status: int, output: str) -> bool | None:
    """Returns what `tool` answers to "can KVM create VMs": True, False, or None for "unknown"."""
    if tool == "kvm-ok":
        found = _KVM_OK.search(output)
        return found[1] is None if found else None
    if tool == "virt-host-validate":
        checks = _VALIDATED.findall(output)
        return "FAIL" not in checks if checks else None  # without a check it crashed or is not installed
    good, bad = EXIT_STATUS["confirmed"], (EXIT_STATUS["failed"], EXIT_STATUS["not applicable"])
    return True if status == good else False if status in bad else None


def _gist(tool: str, output: str) -> str:
    lines = [" ".join(line.split()) for line in output.splitlines() if line.strip()]
    if not lines:
        return "no output"
    if tool == "virt-host-validate":
        checks = [line.partition("Checking ")[2] for line in lines if _VALIDATED.search(line)]
        failed = [check for check in checks if ": PASS" not in check]
        return ("; ".join(failed) or "PASS") if checks else f"no answer: {lines[-1]}"
    if tool == "kvmprobe":
        return next((found[1] for found in map(_VERDICT.match, lines) if found), lines[-1])
    return "; ".join(line for line in lines if not line.startswith("INFO: Your CPU supports"))
