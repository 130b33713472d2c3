"""A result of any command as named cases, which the formats for test harnesses (ktap, tap, junit) render."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge import examine
from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, WARN
from kvmprobe.model.printable import clean, one_line

if TYPE_CHECKING:
    from kvmprobe.judge.check_result import CpuResult
    from kvmprobe.model.judgement import Report

ERROR = "error"  # a status besides those of checks: what decides could not be read, so it neither passed nor failed


class Case:
    """One case.

    `name` and `skip` (the reason of a SKIP) are constant, because harnesses compare runs by them; values belong into
    `message` (one line) and `more` (lines). `status`: PASS, FAIL, SKIP or ERROR. `cases`: the cases it consists of.
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

    def result(self) -> str:
        """How TAP and KTAP write the status: "ok" or "not ok"."""
        return "ok" if self.status in (PASS, SKIP) else "not ok"

    def directive(self) -> str:
        """How TAP and KTAP write that the case was skipped: " # SKIP vendor-not-amd", "" for one that ran."""
        return f" # SKIP {without_directive(self.skip)}" if self.skip else ""


class Suite(Case):
    """Cases, or suites, that belong together. A suite that was skipped as a whole has the reason `skip`; its cases, if
    it has any, were skipped, too.

    `properties`: other values by name. JUnit's `timestamp` and `hostname` are "taken-at" and "host".
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


def without_directive(text: str) -> str:
    """A name for TAP and KTAP: without "#", which would begin a directive."""
    return clean(text).replace("#", "-")


def flat(cases: Sequence[Case], prefix: str = "") -> Iterator[tuple[str, Case]]:
    """All cases by name, for formats whose cases have no cases: cpu1 of svme becomes svme.cpu1.

    A suite gives its name to its cases and is no case itself, unless it was skipped as a whole.
    """
    for case in cases:
        if not (isinstance(case, Suite) and case.cases):
            yield prefix + case.name, case
        yield from flat(case.cases, f"{prefix}{case.name}.")


def of_report(report: Report, name: str = "kvmprobe") -> Suite:
    """One case for each check, named by its id, and for each requirement.

    A case fails, or is an error, if and only if the verdict is "failed" or "inconclusive". So for a verdict "not
    applicable" the suite was skipped, and each requirement is a skipped case whose message is the answer.
    """
    verdict, evidence = report["verdict"], report["evidence"]
    properties = {
        "verdict": f"{verdict['status']} {verdict['reason']}: {one_line(verdict['summary'])}",
        "hint": one_line(verdict["hint"], " "),
        "host": evidence["host"]["name"],
        "kernel": evidence["kernel"]["release"],
        "taken-at": evidence["taken_at"],
        "version": report["tool"]["version"],
    }
    seconds = evidence["duration_ms"] / 1000
    if verdict["status"] == "not applicable":
        return Suite(name, list(_answers(report)), skip=verdict["reason"], properties=properties, seconds=seconds)
    return Suite(name, [*_cases(report), *_requirements(report)], properties=properties, seconds=seconds)


def _cases(report: Report) -> Iterator[Case]:
    verdict = report["verdict"]
    undecided = verdict["status"] == "inconclusive"  # until the check that decided is found
    for outcome in examine(report["evidence"]):
        found = outcome.result
        status, skip = _STATUS[found.status]
        if found.status == UNKNOWN and undecided and found.message == verdict["summary"]:
            status, skip, undecided = ERROR, None, False
        elif outcome.blocked_by:
            skip = "blocked"
        more = [f"hint: {one_line(found.hint, ' ')}"] if found.hint and status in (FAIL, ERROR) else []
        cpus = [_of_cpu(cpu, part, status) for cpu, part in found.by_cpu.items()]
        yield Case(outcome.check.id, status, one_line(found.message), skip, cases=cpus, more=more)


def _requirements(report: Report) -> Iterator[Case]:
    """A case for each requirement. One that is unknown is an error where that decided the verdict."""
    if "requirements" not in report:
        return
    from kvmprobe.judge.requirements.requirement import CHECK_STATUS

    decides = report["verdict"]["reason"] == "requirement-unknown"
    for row in report["requirements"]:
        status, skip = _STATUS[CHECK_STATUS[row["status"]]]
        if row["status"] == UNKNOWN and decides:
            status, skip = ERROR, None
        more = [f"hint: {one_line(row['hint'], ' ')}"] if row["hint"] and status in (FAIL, ERROR) else []
        yield Case(f"require.{row['name']}", status, one_line(row["message"]), skip, more=more)


def _answers(report: Report) -> Iterator[Case]:
    """A skipped case for each requirement of a host that is not applicable, for its exit status is that of a skip."""
    for row in report.get("requirements", ()):
        more = [f"hint: {one_line(row['hint'], ' ')}"] if row["hint"] else []
        message = f"{row['status']}: {one_line(row['message'])}"
        yield Case(f"require.{row['name']}", SKIP, message, report["verdict"]["reason"], more=more)


def _of_cpu(cpu: int, result: CpuResult, whole: str) -> Case:
    """One CPU's part in a check whose case has the status `whole`."""
    status, skip = _STATUS[result.status]
    if result.status == UNKNOWN and whole == ERROR:
        status, skip = ERROR, None
    return Case(f"cpu{cpu}", status, one_line(result.message), skip)


# A case's status and its reason to be skipped, by the check's status. A warning is a pass with a message.
_STATUS: dict[str, tuple[str, str | None]] = {
    PASS: (PASS, None),
    WARN: (PASS, None),
    FAIL: (FAIL, None),
    SKIP: (SKIP, "not-applicable"),
    UNKNOWN: (SKIP, "unknown"),
}
