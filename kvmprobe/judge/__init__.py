"""Judges evidence: all checks, one verdict with one reason. It reads evidence and touches nothing."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING, __version__
from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, WARN, Check, CpuResult, Outcome, Result
from kvmprobe.judge.facts import Facts
from kvmprobe.model.reasons import REASONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvmprobe.judge.requirements.requirement import Requirement
    from kvmprobe.model.evidence import Evidence
    from kvmprobe.model.judgement import Report, Verdict


SCHEMA = "kvmprobe.report/1"

_VENDOR = "vendor"  # the check that decides whether the checks about SVM are made


def judge(evidence: Evidence, requirements: Sequence[Requirement] = ()) -> Report:
    """The report for evidence (of evidence.py), which it contains: see judgement.py and report.schema.json.

    `requirements`: what else the host must have. Each has a row in the report, and the verdict is good only where all
    are met.
    """
    outcomes = examine(evidence)
    report: Report = {
        "schema": SCHEMA,
        "tool": {"name": "kvmprobe", "version": __version__},
        "verdict": _verdict(outcomes),
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
    if requirements:
        from kvmprobe.judge.requirements import requirements_verdict

        rows = requirements_verdict.answers(Facts(evidence), requirements)
        report["requirements"] = rows
        report["verdict"] = requirements_verdict.verdict_with(report["verdict"], rows)
    if "sev" in evidence:
        from kvmprobe.judge.sev import judge_sev  # for --sev alone

        report["sev"] = judge_sev(Facts(evidence))
    return report


def examine(evidence: Evidence) -> list[Outcome]:
    """The outcome of each check that applies to this evidence, in the kernel's order."""
    from kvmprobe.judge.check_table import CHECKS  # all checks, which `explain` does not need for the causes

    facts = Facts(evidence)
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
    _find_cause(facts, outcomes)
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


def _decider(outcomes: list[Outcome]) -> tuple[Result, str]:
    """The result that decides, and its reason: the first failure, else the first thing that had to be known and is not,
    else what was confirmed. There always is one: of create-vm where there is no VM, else of svme."""
    return next(
        (outcome.result, outcome.result.reason)
        for status in (FAIL, UNKNOWN, PASS)
        for outcome in outcomes
        if outcome.result.status == status and outcome.result.reason
    )


def _find_cause(facts: Facts, outcomes: list[Outcome]) -> None:
    """Adds the cause to the result that decides: its name, what shows it, and its hint.

    The hint of a cause goes to every check with the same reason.
    """
    decider, reason = _decider(outcomes)
    if REASONS[reason].status not in ("failed", "inconclusive"):
        return
    from kvmprobe.judge import causes  # no host that is in order pays for their import

    decider.cause, more, hint = causes.find(facts, reason)
    decider.because += [text for text in more if text not in decider.because]
    for outcome in outcomes:
        if hint and outcome.result.reason == reason:
            outcome.result.hint = hint


def _verdict(outcomes: list[Outcome]) -> Verdict:
    result, reason = _decider(outcomes)
    # How many cycles of a soak a verdict stands for is a part of it.
    cycles = next((outcome.result for outcome in outcomes if outcome.check.id == "cycles"), result)
    return {
        "status": REASONS[reason].status,
        "reason": reason,
        "cause": result.cause,
        "summary": result.message if cycles is result else f"{result.message}; {cycles.message}",
        "because": result.because,
        "hint": result.hint or REASONS[reason].hint,
    }
