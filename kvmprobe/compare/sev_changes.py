"""Changes of SEV, SEV-ES and SEV-SNP, where both reports were taken with --sev."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.compare.difference import BETTER, CHANGED, NOT_COMPARABLE, SAME, WORSE, Difference, Side
from kvmprobe.judge.sev import AVAILABLE, NOT_KNOWN

if TYPE_CHECKING:
    from kvmprobe.model.judgement import SevLevel

_AREA = "sev"


def sev(old: Side, new: Side) -> Iterator[Difference]:
    """The answer for each level that both reports have."""
    before, after = (_levels(side) for side in (old, new))
    for name in before:
        if name in after:
            was, now = before[name], after[name]
            note = now["message"] if _text(was) != _text(now) and now["status"] != AVAILABLE else ""
            yield Difference(_AREA, name, _rate(was, now), _text(was), _text(now), note)


def _levels(side: Side) -> dict[str, SevLevel]:
    return {level["level"]: level for level in side.sev["levels"]} if side.sev else {}


def _text(level: SevLevel) -> str:
    return f"{level['status']} ({level['cause']})" if level["cause"] else level["status"]


def _rate(was: SevLevel, now: SevLevel) -> str:
    """What is no longer available is worse. Another cause of the same status is neither worse nor better."""
    if was["status"] == now["status"]:
        return SAME if was["cause"] == now["cause"] else CHANGED
    if NOT_KNOWN in (was["status"], now["status"]):
        return NOT_COMPARABLE
    return BETTER if now["status"] == AVAILABLE else WORSE
