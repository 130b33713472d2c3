"""What changed in the verdict and in the checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvmprobe.compare.difference import BETTER, CHANGED, NOT_COMPARABLE, SAME, WORSE, Difference, Side, quiet
from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, WARN
from kvmprobe.judge.check_table import CHECKS

# From good to bad. What can be said of a step down: only to what is known to be good is it better.
_VERDICTS = ("confirmed", "not applicable", "inconclusive", "failed")
_CHECKS = (PASS, UNKNOWN, FAIL)


def verdict(old: Side, new: Side) -> Iterator[Difference]:
    was, now = (f"{side.verdict['status']} {side.verdict['reason']}" for side in (old, new))
    if was == now:
        yield Difference("verdict", "verdict", SAME, was, now)
        return
    before, after = old.verdict["status"], new.verdict["status"]
    rating = CHANGED if before == after else _rate(_VERDICTS, before, after)
    note = "" if after == _VERDICTS[0] else quiet(new.verdict["summary"])
    if rating == NOT_COMPARABLE:
        note = f"whether that is better cannot be told; {note}"
    yield Difference("verdict", "verdict", rating, was, now, note)


def checks(old: Side, new: Side) -> Iterator[Difference]:
    # The same failure at another step is neither worse nor better: since 6.12 a held SVM stops kvm_amd, not the VM.
    moved: tuple[str | None, ...] = ()
    if old.verdict["reason"] == new.verdict["reason"] and old.verdict["status"] != "confirmed":
        moved = (_decider(old), _decider(new))
    for check in CHECKS:
        was, now = old.checks.get(check.id), new.checks.get(check.id)
        if was is None and now is None:
            continue
        before = was["status"] if was else "not made"
        after = now["status"] if now else "not made"
        if before == after:
            yield Difference("checks", check.id, SAME, before, after)
            continue
        rating = CHANGED if check.id in moved else _rate_check(before, after)
        note = quiet(now["message"]) if now and after != PASS else ""
        if check.id in moved and after == FAIL:
            note = f"the verdict's reason is the same: {note}"
        yield Difference("checks", check.id, rating, before, after, note)


def _rate_check(before: str, after: str) -> str:
    # A warning is no failure; what was skipped says nothing, and the check that blocked it is shown itself.
    before, after = (PASS if status == WARN else status for status in (before, after))
    if before == after or SKIP in (before, after) or not {before, after} <= set(_CHECKS):
        return CHANGED
    return _rate(_CHECKS, before, after)


def _rate(order: Sequence[str], before: str, after: str) -> str:
    """What failed and is unknown now is not better; what was unknown and failed now is worse than anybody knew."""
    if order.index(after) > order.index(before):
        return WORSE
    return BETTER if after == order[0] else NOT_COMPARABLE


def _decider(side: Side) -> str | None:
    """The check that decided the verdict: its message is the summary."""
    summary = side.verdict["summary"]
    return next((name for name, check in side.checks.items() if check["message"] == summary), None)
