"""Compares two reports: what changed, and whether it is worse. Pure: touches nothing."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.compare.difference import Difference, Side
from kvmprobe.compare.features import features
from kvmprobe.compare.judged import checks, verdict
from kvmprobe.compare.parameters import parameters
from kvmprobe.compare.registers import registers
from kvmprobe.compare.timing import timing
from kvmprobe.compare.traced import traces

if TYPE_CHECKING:
    from kvmprobe.shape import Report


# In the order in which they are shown.
AREAS = {
    "verdict": verdict,
    "checks": checks,
    "registers": registers,
    "features": features,
    "parameters": parameters,
    "trace": traces,
    "timing": timing,
}


def compare(old: Report, new: Report) -> list[Difference]:
    """All that was compared, what is the same too. Both reports have to be judged by this version."""
    sides = Side(old), Side(new)
    return [difference for area in AREAS.values() for difference in area(*sides)]
