"""The rows of the comparison: the scenarios of `kvmprobe lab matrix`, and the causes of scripts/cause_guests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvmprobe.lab.scenarios import SCENARIOS
from scripts.cause_guests.cases import BY_KERNEL


@dataclass(frozen=True)
class Row:
    """A state and its truth: `usable`, can KVM create VMs by SVM; if not, `cause`, a pattern of the right cause."""

    name: str
    usable: bool
    cause: str


SCENARIO_ROWS: Sequence[Row] = [Row(scenario.name, scenario.usable, scenario.cause) for scenario in SCENARIOS]
# A cause that guests with several kernels can have is one row.
CAUSE_ROWS: Sequence[Row] = list(
    dict.fromkeys(Row(case.cause, not case.truth, case.truth) for cases in BY_KERNEL.values() for case in cases)
)
