"""The table of formats: what each record promises, and that a format costs nothing until it is used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.formats import FORMATS, REPORT_FORMATS, RESULT_FORMATS, SUITE_FORMATS, format_of_file, render
from kvmprobe.formats.harness_cases import Case, Suite
from kvmprobe.model.verdict_status import EXIT_STATUS
from tests.helpers.recorded_evidence import EVIDENCE, RECORDED, recorded_name
from tests.helpers.run_kvmprobe import PROJECT

_LOADED = """
import json, sys
from kvmprobe.formats import render
render(json.load(sys.stdin), sys.argv[1])
print(*(name.rpartition(".")[2] for name in sys.modules if name.startswith("kvmprobe.formats.")))
"""
# Where a format has more modules than the one of its name.
_MODULES = {
    "text": {"text", "text_lines", "text_checks", "text_registers", "hint_steps"},
    "nagios": {"nagios", "vendor_and_backend"},
    "html": {"html", "context_settings", "feature_cells", "host_row", "row_values"},
    "ktap": {"ktap", "harness_cases"},
    "tap": {"tap", "harness_cases"},
    "junit": {"junit", "harness_cases"},
}


def _report(name: str) -> Any:
    return json.loads((EVIDENCE / f"{name}.json").read_text())


@pytest.mark.parametrize("name", FORMATS)
def test_only_the_modules_of_the_format_are_loaded(name: str) -> None:
    command = [sys.executable, "-c", _LOADED, name]
    with (EVIDENCE / "matrix/bookworm/epyc.json").open() as report:
        done = subprocess.run(command, stdin=report, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == _MODULES.get(name, {name})


@pytest.mark.parametrize("name", REPORT_FORMATS)
@pytest.mark.parametrize("path", RECORDED[::10], ids=recorded_name)
def test_the_exit_status_is_the_verdicts_or_an_agents(name: str, path: Path) -> None:
    report = json.loads(path.read_text())
    status = FORMATS[name].exit_status(report)
    if FORMATS[name].for_agents:
        assert status in range(4)
    else:
        assert status == EXIT_STATUS[report["verdict"]["status"]]


def test_which_formats_are_for_which_results() -> None:
    assert REPORT_FORMATS == ("text", "json", "prometheus", "nagios", "nfd", "html", "ktap", "tap", "junit")
    assert RESULT_FORMATS == ("text", "json", "ktap", "tap", "junit")
    assert [name for name, format in FORMATS.items() if format.file_mode == 0o644] == ["prometheus", "nfd"]
    assert [name for name, format in FORMATS.items() if format.for_agents] == ["nagios"]
    assert [(name, format.max_age_s) for name, format in FORMATS.items() if format.max_age_s] == [("nagios", 93600)]


@pytest.mark.parametrize("name", SUITE_FORMATS)
def test_a_format_of_suites_takes_suites_and_reports(name: str) -> None:
    suite = Suite("any", [Case("one", "pass")])
    assert SUITE_FORMATS[name](suite) == FORMATS[name].render_suite(suite)
    assert "svme" in render(_report("matrix/bookworm/epyc"), name)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("report.json", "json"),
        ("/a.json/b.HTML", "html"),
        ("x.htm", "html"),
        ("kvmprobe.prom", "prometheus"),
        ("junit.xml", "junit"),
        ("run.tap", "tap"),
        ("run.ktap", "ktap"),
        ("notes.txt", "text"),
        ("report", None),
        ("report.json.gz", None),
        ("json", None),
        ("-", None),
        ("", None),
    ],
)
def test_the_format_that_the_name_of_a_file_asks_for(path: str, name: str | None) -> None:
    found = format_of_file(path)
    assert (found.name if found else None) == name


def test_a_complaint_is_for_agents() -> None:
    assert FORMATS["nagios"].complaint("no file", "Give one.") == ("KVMPROBE UNKNOWN - no file\nGive one.\n", 3)
