"""The checks of the text report: those that did not pass, or all as a tree in the kernel's order."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats.text_lines import Line
from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, WARN
from kvmprobe.judge.check_table import CHECKS
from kvmprobe.model.printable import COLOURS, counted, one_line

if TYPE_CHECKING:
    from kvmprobe.judge.facts import Facts
    from kvmprobe.model.judgement import CheckReport, Report

_CHECKS = {check.id: check for check in CHECKS}
_ASKED_FOR = ("nested",)  # the checks of an option: who gives it wants to see the answer, also a good one
_MARK = 10  # columns of "[ FAIL  ] "


def unpassed(report: Report) -> Iterator[Line]:
    """A line for each check that failed, warns or was asked for by an option, and one that counts all checks.

    The check that decided has its message in the verdict, so it is only named.
    """
    summary = report["verdict"]["summary"]
    by_status: dict[str, list[str]] = {}
    for check in report["checks"]:
        by_status.setdefault(check["status"], []).append(_title(check["id"]))
        if check["status"] == WARN or (_matters(check) and check["message"] != summary):
            yield check_line(check["status"], 0, f"{_title(check['id'])}: {one_line(check['message'])}")
    counts = f"{len(by_status.get(PASS, ()))} of {counted(len(report['checks']), 'check')} passed"
    counts += f", {len(by_status[SKIP])} skipped" if SKIP in by_status else ""
    for status, name in ((FAIL, "failed"), (UNKNOWN, "unknown")):
        counts += f"; {name}: {', '.join(by_status[status])}" if status in by_status else ""
    yield Line(f"{counts}; -v shows each.")


def asked_for(report: Report) -> Iterator[Line]:
    """A line for each check that an option asked for, where no other check matters."""
    for check in report["checks"]:
        if check["id"] in _ASKED_FOR:
            message = _why_blocked(report, check["blocked_by"]) or one_line(check["message"])
            yield check_line(SKIP, 0, f"{_title(check['id'])}: {message}")


def _matters(check: CheckReport) -> bool:
    return check["status"] == FAIL or (check["id"] in _ASKED_FOR and check["blocked_by"] is None)


def tree(report: Report, facts: Facts) -> Iterator[Line]:
    """Every check with the kernel's function that does this step, by its name in this kernel."""
    applicable = report["verdict"]["status"] != "not applicable"
    depths: dict[str | None, int] = {None: -1}
    for check in CHECKS:
        depths[check.id] = depths[check.parent] + 1
    for found in report["checks"]:
        # Nothing about SVM fails on a host that does not have it.
        status = found["status"] if applicable or found["status"] == PASS else SKIP
        message = _why_blocked(report, found["blocked_by"]) or one_line(found["message"])
        function = _function(found["id"], facts)
        text = f"{_title(found['id'])}: {message}" + (f" ({function})" if function else "")
        yield check_line(status, depths.get(found["id"], 0), text)


def _title(id: str) -> str:
    """The title of a check, or its id where a stored report has one of another version."""
    return _CHECKS[id].title if id in _CHECKS else id


def _function(id: str, facts: Facts) -> str:
    check = _CHECKS.get(id)
    if check is None:
        return ""
    return check.function if facts.enables_at_load() is None else check.since_at_load


def check_line(status: str, depth: int, text: str) -> Line:
    """A line with the status of a check as its mark, indented by `depth` levels."""
    return Line(f"[{status.upper():^7}] {'  ' * depth}{text}", _MARK + 2 * depth + 2, _MARK - 1, COLOURS[status])


def _why_blocked(report: Report, blocked_by: str | None) -> str:
    """Why a check was skipped: another did not pass before it; "" for any other reason."""
    if blocked_by is None:
        return ""
    if report["verdict"]["status"] == "not applicable":
        return "does not apply"
    blocking = next((check for check in report["checks"] if check["id"] == blocked_by), None)
    return _state(blocking) if blocking else f"{blocked_by} failed"


def _state(check: CheckReport) -> str:
    """ "'KVM_CREATE_VM' failed", "'SVME set' is unknown"."""
    return f"'{_title(check['id'])}' {'is unknown' if check['status'] == UNKNOWN else 'failed'}"
