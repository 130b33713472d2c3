"""Compares two reports: what changed, and whether it is worse. It reads reports and touches nothing."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.compare.difference import Difference, Side
from kvmprobe.compare.feature_changes import features
from kvmprobe.compare.host_changes import host
from kvmprobe.compare.nested_changes import nested_guests
from kvmprobe.compare.parameter_changes import parameters
from kvmprobe.compare.register_changes import registers
from kvmprobe.compare.requirement_changes import requirements
from kvmprobe.compare.sev_changes import sev
from kvmprobe.compare.time_changes import timing
from kvmprobe.compare.trace_changes import traces
from kvmprobe.compare.verdict_changes import checks, verdict

if TYPE_CHECKING:
    from kvmprobe.model.judgement import Report


# In the order of the output.
AREAS = {
    "verdict": verdict,
    "checks": checks,
    "requirements": requirements,
    "registers": registers,
    "features": features,
    "nested": nested_guests,
    "parameters": parameters,
    "host": host,
    "sev": sev,
    "trace": traces,
    "timing": timing,
}


def compare(old: Report, new: Report) -> list[Difference]:
    """Everything that was compared, also what is the same. Both reports have to be judged by this version."""
    sides = Side(old), Side(new)
    return [difference for area in AREAS.values() for difference in area(*sides)]
