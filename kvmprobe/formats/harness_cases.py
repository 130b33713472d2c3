"""A result as named cases: what the formats for test harnesses (ktap, junit) render, whichever command it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge import examine
from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, WARN

if TYPE_CHECKING:
    from kvmprobe.judge.check_result import CpuResult
    from kvmprobe.model.judgement import Report

ERROR = "error"  # it had to be found out and could not: no pass, and nobody's failure


class Case:
    """`name` and `skip`, the reason of a SKIP, are constant: harnesses compare runs by them. Values belong into
    `message` (one line) and `more` (lines). `status`: PASS, FAIL, SKIP or ERROR; `cases`: what it consists of.
    """

    def __init__(
        self,
        name: str,
        status: str,
        message: str = "",
        skip: str | None = None,
        seconds: float | None = None,
        cases: Sequence[Case] = (),
        more: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.status = status
        self.message = message
        self.skip = skip
        self.seconds = seconds
        self.cases = cases
        self.more = more


class Suite(Case):
    """Cases, or suites, that belong together; none, but the reason `skip`, where the whole was skipped.

    `properties`: what else is known, by name. JUnit's `timestamp` and `hostname` are "taken-at" and "host".
    """

    def __init__(
        self,
        name: str,
        cases: Sequence[Case] = (),
        skip: str | None = None,
        properties: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> None:
        statuses = {case.status for case in cases}
        worst = next((status for status in (FAIL, ERROR, PASS) if status in statuses), SKIP)
        if worst == SKIP and skip is None:
            skip = "nothing-ran"
        super().__init__(name, worst, skip=skip, seconds=seconds, cases=cases)
        self.properties = properties or {}


def of_report(report: Report, name: str = "kvmprobe") -> Suite:
    """One case for each check, by its id. Some case fails, or is an error, if and only if the verdict is neither
    "confirmed" nor "not applicable", which skips the whole."""
    verdict, evidence = report["verdict"], report["evidence"]
    properties = {
        "verdict": f"{verdict['status']} {verdict['reason']}: {verdict['summary']}",
        "hint": verdict["hint"],
        "host": evidence["host"]["name"],
        "kernel": evidence["kernel"]["release"],
        "taken-at": evidence["taken_at"],
        "version": report["tool"]["version"],
    }
    seconds = evidence["duration_ms"] / 1000
    if verdict["status"] == "not applicable":
        return Suite(name, skip=verdict["reason"], properties=properties, seconds=seconds)
    return Suite(name, list(_cases(report)), properties=properties, seconds=seconds)


def _cases(report: Report) -> Iterator[Case]:
    verdict = report["verdict"]
    left = verdict["status"] == "inconclusive"  # whether what could not be found out is still to come
    for outcome in examine(report["evidence"]):
        found = outcome.result
        status, skip = _STATUS[found.status]
        if found.status == UNKNOWN and left and found.message == verdict["summary"]:
            status, skip, left = ERROR, None, False
        elif outcome.blocked_by:
            skip = "blocked"
        more = [f"hint: {found.hint}"] if found.hint and status in (FAIL, ERROR) else []
        cpus = [_of_cpu(cpu, part, status) for cpu, part in found.by_cpu.items()]
        yield Case(outcome.check.id, status, found.message, skip, cases=cpus, more=more)


def _of_cpu(cpu: int, result: CpuResult, whole: str) -> Case:
    """One CPU's part in a check that is `whole`. A part fails only where the whole does."""
    status, skip = _STATUS[result.status]
    if result.status == UNKNOWN and whole == ERROR:
        status, skip = ERROR, None
    return Case(f"cpu{cpu}", status, result.message, skip)


# By a check's status: a case's, and why it is skipped. A warning is a pass with a message.
_STATUS: dict[str, tuple[str, str | None]] = {
    PASS: (PASS, None),
    WARN: (PASS, None),
    FAIL: (FAIL, None),
    SKIP: (SKIP, "not-applicable"),
    UNKNOWN: (SKIP, "unknown"),
}
