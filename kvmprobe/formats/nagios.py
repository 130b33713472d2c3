"""The report for Nagios and its kin (Monitoring Plugins Development Guidelines): a line, numbers, details.

With this format the exit status is a plugin's, because that is what the agent reads.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import FAIL, UNKNOWN, WARN
from kvmprobe.judge.facts import Facts
from kvmprobe.model.printable import clean
from kvmprobe.model.times import seconds_of

if TYPE_CHECKING:
    from kvmprobe.model.judgement import Report

_STATES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
EXIT_UNKNOWN = 3
# Where SVM is not applicable nobody has anything to do, and a check that all hosts have must not complain for ever.
_STATUSES = {"confirmed": 0, "failed": 2, "inconclusive": EXIT_UNKNOWN, "not applicable": 0}
_LONGEST = 480  # of a line: old NRPE carries 1,024 bytes in all
_WORDS = str.maketrans({"→": "->", "…": "...", "|": "/"})


def exit_status(report: Report) -> int:
    """0 OK, 1 WARNING: confirmed, but a check warns; 2 CRITICAL: failed, 3 UNKNOWN: inconclusive."""
    status = _STATUSES[report["verdict"]["status"]]
    warned = any(check["status"] == WARN for check in report["checks"])
    return 1 if report["verdict"]["status"] == "confirmed" and warned else status


def render(report: Report) -> str:
    """ASCII only. The first line has the numbers; then come the checks that did not pass, and what to do."""
    verdict = report["verdict"]
    first = f"{_head(exit_status(report))}{verdict['status']} {verdict['reason']}: {verdict['summary']}"
    lines = [f"{_line(first)}|{' '.join(_numbers(Facts(report['evidence'])))}", *map(_line, _details(report))]
    return "\n".join(lines) + "\n"


def complaint(message: str, hint: str | None) -> str:
    """What stands in a report's place where there is none."""
    lines = f"{_head(EXIT_UNKNOWN)}{message}".splitlines()
    return "\n".join(map(_line, [*lines, hint] if hint else lines)) + "\n"


def _head(status: int) -> str:
    return f"KVMPROBE {_STATES[status]} - "


def _details(report: Report) -> Iterator[str]:
    evidence = report["evidence"]
    yield f"{evidence['host']['name']}: Linux {evidence['kernel']['release']}, {evidence['taken_at']}"
    for check in report["checks"]:
        if check["status"] in (FAIL, WARN, UNKNOWN):
            yield f"{check['status']} {check['id']}: {check['message']}"
    if evidence["uevents"]["error"]:
        yield f"one witness less: {evidence['uevents']['error']}"
    yield f"what to do: {report['verdict']['hint']}"


def _numbers(facts: Facts) -> Iterator[str]:
    """Performance data: label=value with its unit;warn;crit;min;max. What is unknown is left out."""
    yield f"duration={facts.evidence['duration_ms'] / 1000:.4f}s;;;0"
    taken = seconds_of(facts.evidence["taken_at"])
    if taken is not None:
        yield f"age={max(0, int(time.time() - taken))}s;;;0"
    total = len(facts.cpus)
    yield f"cpus={total};;;0"
    svme = list(facts.svme("created").values())
    if facts.has_snapshot("created") and None not in svme:
        yield f"svme_cpus={svme.count(True)};;;0;{total}"


def _line(text: str) -> str:
    """One line of bytes that no locale can spoil, and no | in it: numbers would follow."""
    line = clean(text.translate(_WORDS)).encode("ascii", "backslashreplace").decode("ascii")
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."
