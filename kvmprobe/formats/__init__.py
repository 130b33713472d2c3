"""The formats of results: one record for each in FORMATS, one module for each, imported when the format is used."""

from __future__ import annotations

import importlib

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.verdict_status import EXIT_STATUS

if TYPE_CHECKING:
    from typing import Any

    from kvmprobe.formats.harness_cases import Suite
    from kvmprobe.model.judgement import Report

_READ_BY_DAEMONS = 0o644  # root writes the file, another user's daemon reads it, whatever root's umask is


class Format:
    """One way to write a result.

    `name`: for --format, and of the module below kvmprobe.formats that renders it (`render`).
    `suffixes`: what the names of its files end in; --output chooses the format by them.
    `for_people`: the module's `render` also takes verbose, colour and width (see text.py).
    `of_suites`: the module's `render` takes a Suite (see harness_cases.py) and not a report, so the format also serves
    results about many reports.
    `file_mode`: the permissions of a file in this format, whatever the umask is; None: as for any file of the user.
    `for_agents`: a monitoring agent reads standard output and the exit status. So the exit status is the agent's
    (`exit_status` of the module), a problem is reported on standard output too (`complaint` of the module), and the
    result is written only after all other files have been.
    `max_age_s`: `judge` refuses older evidence, in seconds, unless --max-age gives another limit; None: no limit.
    """

    def __init__(
        self,
        name: str,
        suffixes: tuple[str, ...] = (),
        for_people: bool = False,
        of_suites: bool = False,
        file_mode: int | None = None,
        for_agents: bool = False,
        max_age_s: int | None = None,
    ) -> None:
        self.name = name
        self.suffixes = suffixes
        self.for_people = for_people
        self.of_suites = of_suites
        self.file_mode = file_mode
        self.for_agents = for_agents
        self.max_age_s = max_age_s

    def _module(self) -> Any:
        return importlib.import_module(f"kvmprobe.formats.{self.name}")

    def render(self, report: Report, verbose: int = 0, colour: bool = False, width: int | None = None) -> str:
        """The report in this format. `verbose`, `colour` and `width` are for people: see text.py.

        Raises DataProblem where the report, read from a file, has something that the format cannot show.
        """
        if self.of_suites:
            from kvmprobe.formats.harness_cases import of_report

            return self.render_suite(of_report(report))
        arguments = (verbose, colour, width) if self.for_people else ()
        text: str = self._module().render(report, *arguments)
        return text

    def render_suite(self, suite: Suite) -> str:
        """The suite in this format, which is one `of_suites`."""
        text: str = self._module().render(suite)
        return text

    def exit_status(self, report: Report) -> int:
        """The exit status of a command that has this report as its result in this format."""
        if self.for_agents:
            status: int = self._module().exit_status(report)
            return status
        return EXIT_STATUS[report["verdict"]["status"]]

    def complaint(self, message: str, hint: str | None) -> tuple[str, int]:
        """The output and the exit status of a command without a result, for a format `for_agents`."""
        module = self._module()
        return module.complaint(message, hint), module.EXIT_UNKNOWN


FORMATS = {
    format.name: format
    for format in (
        Format("text", (".txt",), for_people=True),
        Format("json", (".json",)),
        Format("prometheus", (".prom",), file_mode=_READ_BY_DAEMONS),
        # 26 h: a daily timer, its random delay, and a long probe
        Format("nagios", for_agents=True, max_age_s=26 * 3600),
        Format("nfd", file_mode=_READ_BY_DAEMONS),
        Format("html", (".html", ".htm")),
        Format("ktap", (".ktap",), of_suites=True),
        Format("tap", (".tap",), of_suites=True),
        Format("junit", (".xml",), of_suites=True),
    )
}
REPORT_FORMATS = tuple(FORMATS)
SUITE_FORMATS = {name: format.render_suite for name, format in FORMATS.items() if format.of_suites}
RESULT_FORMATS = ("text", "json", *SUITE_FORMATS)  # of any result, also of one about many reports


def render(report: Report, name: str, verbose: int = 0, colour: bool = False, width: int | None = None) -> str:
    """The report in the format `name`: see Format.render."""
    return FORMATS[name].render(report, verbose, colour, width)


def format_of_file(path: str) -> Format | None:
    """The format that the name of a file asks for, such as "report.json"; None where it asks for none."""
    name = path.lower()
    return next((format for format in FORMATS.values() if format.suffixes and name.endswith(format.suffixes)), None)
