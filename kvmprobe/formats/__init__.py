"""What comes out: one module for each format, with `render(…) -> str`. Only what is asked for is imported."""

from __future__ import annotations

from collections.abc import Callable

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.reasons import EXIT_STATUS

if TYPE_CHECKING:
    from kvmprobe.formats.harness_cases import Suite
    from kvmprobe.model.judgement import Report


def render(report: Report, name: str, verbose: int = 0, colour: bool = False) -> str:
    """The report in one of REPORT_FORMATS. `verbose` and `colour` are for people: see text.py."""
    if name in SUITE_FORMATS:
        from kvmprobe.formats.harness_cases import of_report

        return SUITE_FORMATS[name](of_report(report))
    return _OF_A_REPORT[name](report, verbose, colour)


def exit_status(report: Report, name: str) -> int:
    """What the process ends with when this is its result, in the format `name`."""
    if name == "nagios":  # the one format with a status of its own
        from kvmprobe.formats import nagios

        return nagios.exit_status(report)
    return EXIT_STATUS[report["verdict"]["status"]]


def _text(report: Report, verbose: int, colour: bool) -> str:
    from kvmprobe.formats import text

    return text.render(report, verbose, colour)


def _json(report: Report, *_: object) -> str:
    from kvmprobe.formats import json

    return json.render(report)


def _html(report: Report, *_: object) -> str:
    from kvmprobe.formats import html

    return html.render(report)


def _prometheus(report: Report, *_: object) -> str:
    from kvmprobe.formats import prometheus

    return prometheus.render(report)


def _nagios(report: Report, *_: object) -> str:
    from kvmprobe.formats import nagios

    return nagios.render(report)


def _nfd(report: Report, *_: object) -> str:
    from kvmprobe.formats import nfd

    return nfd.render(report)


def _ktap(suite: Suite) -> str:
    from kvmprobe.formats import ktap

    return ktap.render(suite)


def _junit(suite: Suite) -> str:
    from kvmprobe.formats import junit

    return junit.render(suite)


_OF_A_REPORT: dict[str, Callable[[Report, int, bool], str]] = {
    "text": _text,
    "json": _json,
    "prometheus": _prometheus,
    "nagios": _nagios,
    "nfd": _nfd,
    "html": _html,
}
# Of cases (see cases.py), whichever command they came from.
SUITE_FORMATS: dict[str, Callable[[Suite], str]] = {"ktap": _ktap, "junit": _junit}
REPORT_FORMATS = (*_OF_A_REPORT, *SUITE_FORMATS)
RESULT_FORMATS = ("text", "json", *SUITE_FORMATS)  # of any result, also of one about many reports
READ_BY_DAEMONS = ("prometheus", "nfd")  # whose users are others than the file's owner
