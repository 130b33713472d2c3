"""The rule that decides whether the answer of a tool is right.

The truth of each row is written with its state, before any answer is looked at: kvmprobe/lab/scenarios.py and
scripts/cause_guests/cases.py. The rule is the same for all tools: right is "yes" where KVM is usable, and "no" with the
right cause where it is not. "Unknown" is wrong in both cases.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from scripts.tool_comparison.rows import Row
from scripts.tool_comparison.tools import TOOLS


@dataclass(frozen=True)
class ToolOutput:
    """The exit status and the output of a tool."""

    status: int
    output: str


@dataclass(frozen=True)
class ToolAnswer:
    """What a tool answered: `usable` (None: neither yes nor no) and the part of its output that shows it.

    `right`: whether it is right by the rule.
    """

    usable: bool | None
    statement: str
    right: bool


def judge(row: Row, outputs: dict[str, ToolOutput]) -> dict[str, ToolAnswer]:
    """Returns the answer of each tool in a row. Without a tool in `outputs` its guest was lost."""
    answers = {}
    for tool in TOOLS:
        if tool.name not in outputs:
            answers[tool.name] = ToolAnswer(None, "the guest was lost", False)
            continue
        usable, statement = tool.read(outputs[tool.name].status, outputs[tool.name].output)
        if row.usable:
            right = usable is True
        else:
            right = usable is False and re.search(row.cause, statement, re.IGNORECASE) is not None
        answers[tool.name] = ToolAnswer(usable, statement, right)
    return answers
