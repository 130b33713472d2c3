"""Changes of what a guest in a guest did, where both reports have one (--nested)."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.compare.difference import BETTER, NOT_COMPARABLE, SAME, WORSE, Difference, Side
from kvmprobe.model.nested_rules import NOT_RUN, PAGING, WORKS, kind_of, offers_svm

if TYPE_CHECKING:
    from kvmprobe.model.nested_evidence import Nested

_NOT_OFFERED, _FAILED = "not offered by KVM", "failed"
_BEST_FIRST = (WORKS, NOT_RUN, _NOT_OFFERED, _FAILED)


def nested_guests(old: Side, new: Side) -> Iterator[Difference]:
    """What the guest in the guest did, for each kind of paging. The checks show where only one report has it."""
    if "nested" not in old.evidence or "nested" not in new.evidence:
        return
    for paging, title in PAGING.items():
        was, now = (_state(side.evidence["nested"], paging) for side in (old, new))
        yield Difference("nested", f"guest in a guest, {title}", _rate(was, now), was, now)


def _rate(was: str, now: str) -> str:
    """As for checks: from unknown to failed is worse, because it was not known to have failed."""
    if was == now:
        return SAME
    if _BEST_FIRST.index(now) > _BEST_FIRST.index(was):
        return WORSE
    return BETTER if now == WORKS else NOT_COMPARABLE


def _state(nested: Nested, paging: str) -> str:
    offered = offers_svm(nested)
    if offered is None:
        return NOT_RUN
    if not offered or paging not in nested["runs"]:
        return _NOT_OFFERED
    kinds = set(map(kind_of, nested["runs"][paging]))
    if kinds - {WORKS, NOT_RUN}:
        return _FAILED
    return WORKS if WORKS in kinds else NOT_RUN
