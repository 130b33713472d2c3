"""Judges evidence: all checks, one verdict with one reason. Pure: reads evidence and touches nothing."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING, __version__
from kvmprobe.judge.check import FAIL, PASS, SKIP, UNKNOWN, WARN, Check, Result
from kvmprobe.judge.check_table import CHECKS
from kvmprobe.judge.facts import Facts
from kvmprobe.model.reasons import REASONS

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Evidence, Report


SCHEMA = "kvmprobe.report/1"

# Rules about whether SVM can work. Where the registers show that it does, they are only warnings.
_RULES = ("vendor", "svm-bit", "sev-guest", "firmware", "cpus-agree", "kvm-amd")


def judge(evidence: Evidence) -> Report:
    """The report for evidence of the shape in evidence.py (which it contains): see report.schema.json."""
    facts = Facts(evidence)
    results = _run(facts)
    reason, summary, hint = _decide(results)
    return {
        "schema": SCHEMA,
        "tool": {"name": "kvmprobe", "version": __version__},
        "verdict": {"status": REASONS[reason].status, "reason": reason, "summary": summary, "hint": hint},
        "checks": [
            {
                "id": check.id,
                "status": result.status,
                "message": result.message,
                "hint": _hint(result),
                "blocked_by": blocked_by,
            }
            for check, result, blocked_by in results
        ],
        "evidence": evidence,
    }


def _run(facts: Facts) -> list[tuple[Check, Result, str | None]]:
    works = facts.works()
    stopped: dict[str, str] = {}  # check → the check that failed before it
    results = []
    for check in CHECKS:
        if not check.applies(facts):
            continue
        blocked_by = None
        if check.needs in stopped and not check.reached(facts):
            blocked_by = stopped[check.id] = stopped[check.needs]
            result = Result(SKIP, f"makes no sense without {blocked_by}")
        else:
            result = check.judge(facts)
            if works and check.id in _RULES and result.status == FAIL:
                result = Result(WARN, f"{result.message}; the registers show SVM at work all the same")
            if result.status == FAIL or (result.reason and result.status == UNKNOWN):
                stopped[check.id] = check.id
        results.append((check, result, blocked_by))
    return results


def _decide(results: list[tuple[Check, Result, str | None]]) -> tuple[str, str, str]:
    """The first failure decides, else the first thing that had to be known and is not, else what was confirmed."""
    for status in (FAIL, UNKNOWN, PASS):
        for _, result, _ in results:
            if result.status == status and result.reason:
                return result.reason, result.message, _hint(result) or ""
    # No check had anything decisive: the registers were never reached.
    unknown = next((result.message for _, result, _ in results if result.status == UNKNOWN), "nothing could be read")
    return "msr-unreadable", unknown, REASONS["msr-unreadable"].hint


def _hint(result: Result) -> str | None:
    if result.hint:
        return result.hint
    return REASONS[result.reason].hint if result.reason else None
