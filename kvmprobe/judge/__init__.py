"""Judges evidence: all checks, one verdict with one reason. It reads evidence and touches nothing."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING, __version__
from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, WARN, Check, CpuResult, Outcome, Result
from kvmprobe.judge.check_table import CHECKS
from kvmprobe.judge.facts import Facts
from kvmprobe.model.reasons import REASONS

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Evidence
    from kvmprobe.model.judgement import Report, Verdict


SCHEMA = "kvmprobe.report/1"

_VENDOR = "vendor"  # the check that decides whether the checks about SVM are made


def judge(evidence: Evidence) -> Report:
    """The report for evidence (of evidence.py), which it contains: see judgement.py and report.schema.json."""
    outcomes, decisive = _decide(Facts(evidence))
    return {
        "schema": SCHEMA,
        "tool": {"name": "kvmprobe", "version": __version__},
        "verdict": _verdict(decisive),
        "checks": [
            {
                "id": outcome.check.id,
                "status": outcome.result.status,
                "message": outcome.result.message,
                "hint": outcome.result.hint,
                "blocked_by": outcome.blocked_by,
            }
            for outcome in outcomes
        ],
        "evidence": evidence,
    }


def examine(evidence: Evidence) -> list[Outcome]:
    """The outcome of each check that applies to this evidence, in the kernel's order."""
    return _decide(Facts(evidence))[0]


def _apply_checks(facts: Facts) -> list[Outcome]:
    works = facts.works()
    stopped: dict[str, Outcome] = {}  # check id -> the outcome that stops what comes after it
    outcomes = []
    for check in CHECKS:
        if not check.applies(facts):
            continue
        blocker = stopped.get(_VENDOR) if check.about_svm else None
        if check.needs in stopped and not check.reached(facts):
            blocker = blocker or stopped[check.needs]
        if blocker:
            outcome = _skipped(check, blocker)
            stopped[check.id] = blocker
        else:
            outcome = Outcome(check, _consistent(check, check.judge(facts), works))
            if outcome.result.status == FAIL or (outcome.result.reason and outcome.result.status == UNKNOWN):
                stopped[check.id] = outcome
        outcomes.append(outcome)
    return outcomes


def _skipped(check: Check, blocker: Outcome) -> Outcome:
    how = "failed" if blocker.result.status == FAIL else "is unknown"
    return Outcome(check, Result(SKIP, f"skipped: {blocker.check.id} {how}"), blocker.check.id)


def _consistent(check: Check, result: Result, works: bool) -> Result:
    """The result with its reason's hint, and with what follows from the registers.

    Evidence beats rules: where the registers show SVM at work, a rule that failed is a warning. No CPU's part fails
    where the whole does not.
    """
    status, message, reason, hint = result.status, result.message, result.reason, result.hint
    if works and check.is_rule and status == FAIL:
        status, message, reason, hint = WARN, f"{message}; the registers show SVM at work", None, None
    parts = result.by_cpu
    if status != FAIL:
        parts = {cpu: _not_failed(part) for cpu, part in parts.items()}
    if reason and not hint:
        hint = REASONS[reason].hint
    return Result(status, message, reason, hint, result.because, parts)


def _not_failed(part: CpuResult) -> CpuResult:
    return CpuResult(WARN if part.status == FAIL else part.status, part.message)


def _decide(facts: Facts) -> tuple[list[Outcome], Result]:
    """All outcomes, and the result that the verdict repeats, with its cause: the first failure decides, else the first
    thing that had to be known and is not, else what was confirmed."""
    outcomes = _apply_checks(facts)
    for status in (FAIL, UNKNOWN, PASS):
        for outcome in outcomes:
            if outcome.result.status == status and outcome.result.reason:
                outcome.result = _with_cause(facts, outcome.result, outcome.result.reason)
                return outcomes, outcome.result
    # No check had anything decisive: the registers were never reached.
    unknown = [outcome.result.message for outcome in outcomes if outcome.result.status == UNKNOWN]
    message = unknown[0] if unknown else "nothing could be read"
    return outcomes, _with_cause(facts, Result(UNKNOWN, message, because=unknown), "msr-unreadable")


def _with_cause(facts: Facts, result: Result, reason: str) -> Result:
    """A decisive result with the cause of its reason, and that cause's hint, where the evidence shows one."""
    cause: str | None = None
    more: list[str] = []
    hint: str | None = None
    if REASONS[reason].status in ("failed", "inconclusive"):
        from kvmprobe.judge import causes  # no host that is in order pays for their import

        cause, more, hint = causes.find(facts, reason)
    because = list(dict.fromkeys((*result.because, *more)))
    hint = hint or result.hint or REASONS[reason].hint
    return Result(result.status, result.message, reason, hint, because, result.by_cpu, cause)


def _verdict(decisive: Result) -> Verdict:
    reason = decisive.reason or ""
    return {
        "status": REASONS[reason].status,
        "reason": reason,
        "cause": decisive.cause,
        "summary": decisive.message,
        "because": decisive.because,
        "hint": decisive.hint or "",
    }
