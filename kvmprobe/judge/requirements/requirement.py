"""What a requirement is, and what it answers."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import FAIL, PASS, UNKNOWN

if TYPE_CHECKING:
    from typing import Callable

    from kvmprobe.judge.facts import Facts

MET, NOT_MET = "met", "not-met"  # and UNKNOWN: the evidence does not show it, which is never MET

# A requirement is a check of its own: the status of the check by that of the answer.
CHECK_STATUS = {MET: PASS, NOT_MET: FAIL, UNKNOWN: UNKNOWN}


class RequirementAnswer:
    """What the evidence shows about a requirement.

    `status`: MET, NOT_MET or UNKNOWN. `message`: the values that show it, in one line. `hint`: what to do, one sentence
    for each step, commands in backticks; None where it is met.
    """

    def __init__(self, status: str, message: str, hint: str | None = None) -> None:
        self.status = status
        self.message = message
        self.hint = hint


class Requirement:
    """Something that a host must have.

    `name`: for --require. `description`: what must be so, in one line. `ask`: a pure function of the evidence; what the
    evidence does not show is UNKNOWN. `excludes`: the names of requirements that no host meets together with this one.
    """

    def __init__(
        self, name: str, description: str, ask: Callable[[Facts], RequirementAnswer], excludes: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.description = description
        self.ask = ask
        self.excludes = excludes
