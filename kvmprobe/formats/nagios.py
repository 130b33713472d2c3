"""The report for Nagios and compatible agents: a line with the state, numbers, details.

Source: Monitoring Plugins Development Guidelines, "Plugin Output for Nagios" and "Performance data". With this format
the exit status is the plugin's, because the agent reads it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats.vendor_and_backend import backend, vendor
from kvmprobe.judge.check_result import FAIL, UNKNOWN, WARN
from kvmprobe.judge.facts import Facts
from kvmprobe.model.printable import ascii_only, clean, cut, one_line
from kvmprobe.model.times import parse_time

if TYPE_CHECKING:
    from kvmprobe.model.judgement import Report

_STATES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
EXIT_UNKNOWN = 3
# A host without SVM is OK: an operator gives the same check to all hosts, and there is nothing to do on this one.
_STATUSES = {"confirmed": 0, "usable": 0, "failed": 2, "inconclusive": EXIT_UNKNOWN, "not applicable": 0}
_OF_REQUIREMENT = {"met": 0, "not-met": 2, "unknown": EXIT_UNKNOWN}
_WORST_LAST = (0, EXIT_UNKNOWN, 2)
_MAY_WARN = ("confirmed", "usable")
_LONGEST = 480  # characters of a line: NRPE before version 3 transfers 1,024 bytes in all


def exit_status(report: Report) -> int:
    """0 OK, 1 WARNING: confirmed or usable, and a check warns; 2 CRITICAL: failed, 3 UNKNOWN: inconclusive.

    A host that is not applicable is OK only where it has what --require asked.
    """
    verdict = report["verdict"]["status"]
    if verdict == "not applicable" and "requirements" in report:
        return max((_OF_REQUIREMENT[row["status"]] for row in report["requirements"]), key=_WORST_LAST.index, default=0)
    warns = any(check["status"] == WARN for check in report["checks"])
    return 1 if verdict in _MAY_WARN and warns else _STATUSES[verdict]


def render(report: Report) -> str:
    """The output, ASCII only: the first line has the verdict and the numbers, the others the details."""
    verdict = report["verdict"]
    first = f"{_head(exit_status(report))}{verdict['status']} {verdict['reason']}: {one_line(verdict['summary'])}"
    lines = [f"{_line(first)}|{' '.join(_numbers(Facts(report['evidence'])))}", *map(_line, _details(report))]
    return "\n".join(lines) + "\n"


def complaint(message: str, hint: str | None) -> str:
    """The output where there is no report: why, and the hint."""
    first = f"{_head(EXIT_UNKNOWN)}{message}"
    return "\n".join(map(_line, [first, hint] if hint else [first])) + "\n"


def _head(status: int) -> str:
    return f"KVMPROBE {_STATES[status]} - "


def _details(report: Report) -> Iterator[str]:
    evidence, verdict = report["evidence"], report["verdict"]
    yield f"{evidence['host']['name']}: Linux {evidence['kernel']['release']}, {evidence['taken_at']}"
    if verdict["status"] == "not applicable":
        facts = Facts(evidence)
        yield f"CPU vendor: {vendor(facts)}"
        yield f"KVM backend: {backend(facts)}"
    else:
        yield from _unpassed(report)
    for row in report.get("requirements", ()):
        yield f"{row['status']} {row['name']}: {one_line(row['message'])}"
    yield f"what to do: {one_line(_hint(report), ' ')}"


def _hint(report: Report) -> str:
    """The verdict's hint. A host that is not applicable has nothing to do for SVM, only for its requirements."""
    if report["verdict"]["status"] == "not applicable" and "requirements" in report:
        from kvmprobe.judge.requirements.requirements_verdict import what_to_do

        return what_to_do(report["requirements"]) or report["verdict"]["hint"]
    return report["verdict"]["hint"]


def _unpassed(report: Report) -> Iterator[str]:
    for check in report["checks"]:
        if check["status"] in (FAIL, WARN, UNKNOWN):
            yield f"{check['status']} {check['id']}: {one_line(check['message'])}"
    if report["evidence"]["uevents"]["error"]:
        yield f"warning: KVM uevents unavailable: {report['evidence']['uevents']['error']}"


def _numbers(facts: Facts) -> Iterator[str]:
    """Performance data: label=value with its unit;warn;crit;min;max. What is unknown is left out."""
    yield f"duration={facts.evidence['duration_ms'] / 1000:.4f}s;;;0"
    taken = parse_time(facts.evidence["taken_at"])
    if taken is not None:
        yield f"age={max(0, int(time.time() - taken))}s;;;0"
    if not facts.online_is_known:
        return
    total = len(facts.cpus)
    yield f"cpus={total};;;0"
    svme = list(facts.svme("created").values())
    if facts.has_snapshot("created") and None not in svme:
        yield f"svme_cpus={svme.count(True)};;;0;{total}"


def _line(text: str) -> str:
    """One line in ASCII, so that any locale can carry it, and without "|", which separates text and numbers."""
    return cut(ascii_only(clean(text.replace("|", "/"))), _LONGEST, "...")
