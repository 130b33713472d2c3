"""Changes of the verdict and of the checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvmprobe.compare.difference import (
    BETTER,
    CHANGED,
    NOT_COMPARABLE,
    SAME,
    WORSE,
    Difference,
    Side,
    without_run_data,
)
from kvmprobe.judge.causes.svm_owner import OVERRUN
from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, WARN
from kvmprobe.judge.check_table import CHECKS
from kvmprobe.model.verdict_status import BEST_FIRST, GOOD

_CHECKS_BEST_FIRST = (PASS, UNKNOWN, FAIL)
_NOT_APPLIED = "not applied"  # the status of a check that a report does not have


def verdict(old: Side, new: Side) -> Iterator[Difference]:
    """The verdict: status and reason."""
    was, now = (_text(side) for side in (old, new))
    if was == now:
        yield Difference("verdict", "verdict", SAME, was, now)
        return
    before, after = old.verdict["status"], new.verdict["status"]
    rating = CHANGED if before == after else _rate(BEST_FIRST, GOOD, before, after)
    if rating == CHANGED and new.verdict["cause"] == OVERRUN.name:
        rating = WORSE  # KVM no longer refuses to use what belongs to another owner
    note = "" if after == "confirmed" else without_run_data(new.verdict["summary"])
    if rating == NOT_COMPARABLE:
        note = f"better or worse is unknown: {note}"
    yield Difference("verdict", "verdict", rating, was, now, note)


def _text(side: Side) -> str:
    cause = f" ({OVERRUN.name})" if side.verdict["cause"] == OVERRUN.name else ""
    return f"{side.verdict['status']} {side.verdict['reason']}{cause}"


def checks(old: Side, new: Side) -> Iterator[Difference]:
    """The status of each check that one of the reports has."""
    # The same failure at another step is neither worse nor better: since 6.12 another owner of SVM makes loading
    # kvm_amd fail, and not KVM_CREATE_VM.
    moved: tuple[str | None, ...] = ()
    if old.verdict["reason"] == new.verdict["reason"] and old.verdict["status"] not in GOOD:
        moved = (_decider(old), _decider(new))
    for check in CHECKS:
        was, now = old.checks.get(check.id), new.checks.get(check.id)
        if was is None and now is None:
            continue
        before, after = (found["status"] if found else _NOT_APPLIED for found in (was, now))
        if before == after:
            yield Difference("checks", check.id, SAME, before, after)
            continue
        rating = CHANGED if check.id in moved else _rate_check(before, after)
        note = without_run_data(now["message"]) if now and after != PASS else ""
        if check.id in moved and after == FAIL:
            note = f"the verdict has the same reason: {note}"
        yield Difference("checks", check.id, rating, before, after, note)


def _rate_check(before: str, after: str) -> str:
    # A warning counts as a pass. A skipped check shows nothing: the check that blocked it has its own difference.
    before, after = (PASS if status == WARN else status for status in (before, after))
    if before == after or SKIP in (before, after) or not {before, after} <= set(_CHECKS_BEST_FIRST):
        return CHANGED
    return _rate(_CHECKS_BEST_FIRST, (PASS,), before, after)


def _rate(best_first: Sequence[str], good: Sequence[str], before: str, after: str) -> str:
    """Only a change to a status that is known to be good is better: from failed to unknown is not. From unknown to
    failed is worse, because it was not known to have failed."""
    if best_first.index(after) > best_first.index(before):
        return WORSE
    return BETTER if after in good else NOT_COMPARABLE


def _decider(side: Side) -> str | None:
    """The id of the check that decided the verdict: the summary begins with its message."""
    summary = f"{side.verdict['summary']}; "
    return next((name for name, check in side.checks.items() if summary.startswith(f"{check['message']}; ")), None)
