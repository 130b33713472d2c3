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
    facts = Facts(evidence)
    outcomes = _examine(facts)
    verdict = _decide(facts, outcomes)
    return {
        "schema": SCHEMA,
        "tool": {"name": "kvmprobe", "version": __version__},
        "verdict": verdict,
        "checks": [
            {
                "id": outcome.check.id,
                "status": outcome.result.status,
                "message": outcome.result.message,
                "hint": verdict["hint"] if outcome.result.reason == verdict["reason"] else outcome.result.hint,
                "blocked_by": outcome.blocked_by,
            }
            for outcome in outcomes
        ],
        "evidence": evidence,
    }


def examine(evidence: Evidence) -> list[Outcome]:
    """The outcome of each check that applies to this evidence, in the kernel's order."""
    return _examine(Facts(evidence))


def _examine(facts: Facts) -> list[Outcome]:
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


def _decide(facts: Facts, outcomes: list[Outcome]) -> Verdict:
    """The first failure decides, else the first thing that had to be known and is not, else what was confirmed."""
    for status in (FAIL, UNKNOWN, PASS):
        for outcome in outcomes:
            if outcome.result.status == status and outcome.result.reason:
                return _verdict(facts, outcome.result.reason, outcome.result)
    # No check had anything decisive: the registers were never reached.
    unknown = [outcome.result for outcome in outcomes if outcome.result.status == UNKNOWN]
    first = unknown[0].message if unknown else "nothing could be read"
    return _verdict(facts, "msr-unreadable", Result(UNKNOWN, first, because=[result.message for result in unknown]))


def _verdict(facts: Facts, reason: str, result: Result) -> Verdict:
    """The verdict of a reason, with its cause and that cause's hint where the evidence shows one."""
    status = REASONS[reason].status
    cause: str | None = None
    more: list[str] = []
    hint: str | None = None
    if status in ("failed", "inconclusive"):
        from kvmprobe.judge import causes  # no host that is in order pays for their import

        cause, more, hint = causes.find(facts, reason)
    return {
        "status": status,
        "reason": reason,
        "cause": cause,
        "summary": result.message,
        "because": [*result.because, *(text for text in more if text not in result.because)],
        "hint": hint or result.hint or REASONS[reason].hint,
    }
