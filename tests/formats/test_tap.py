"""TAP of every recorded report and variant, read by a parser of TAP 13 from PyPI (tap.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tap.line import Bail, Diagnostic, Plan, Result, Version
from tap.parser import Parser

from kvmprobe.formats import render, tap
from kvmprobe.formats.harness_cases import ERROR, Case, Suite
from kvmprobe.judge import judge
from tests.helpers.judged_reports import all_reports
from tests.helpers.recorded_evidence import EVIDENCE, recorded
from tests.helpers.run_kvmprobe import kvmprobe


def _read(text: str) -> tuple[Plan, list[Result]]:
    """The plan and the results. No line may be anything else but the version and comments."""
    lines = list(Parser().parse_text(text))
    assert all(isinstance(line, (Version, Plan, Result, Diagnostic)) for line in lines), lines
    assert isinstance(lines[0], Version)
    assert lines[0].version == 13
    results = [line for line in lines if isinstance(line, Result)]
    assert [result.number for result in results] == list(range(1, len(results) + 1))
    (plan,) = (line for line in lines if isinstance(line, Plan))
    assert plan.expected_tests == len(results)
    return plan, results


@pytest.mark.parametrize("report", all_reports())
def test_every_report(report: Any) -> None:
    """The names of cases are constant, and a case fails if and only if the exit status is 1 or 3."""
    plan, results = _read(render(report, "tap"))
    verdict = report["verdict"]
    if verdict["status"] == "not applicable":
        assert (plan.skip, results) == (True, [])
        return
    names = [result.description.removeprefix("- ") for result in results]
    assert [name for name in names if "." not in name] == [check["id"] for check in report["checks"]]
    assert all(result.ok for result in results) == (verdict["status"] in ("confirmed", "usable"))
    checks = {check["id"]: check for check in report["checks"]}
    for name, result in zip(names, results):
        if result.skip and name in checks:
            assert checks[name]["status"] in ("skip", "unknown"), name


def test_a_cpu_has_a_line_of_its_own() -> None:
    lines = render(judge(recorded("matrix/bookworm/held-second")), "tap").splitlines()
    assert "not ok 11 - create-vm" in lines
    assert lines[lines.index("ok 12 - create-vm.cpu0") :][:4] == [
        "ok 12 - create-vm.cpu0",
        "# EFER.SVME was 0",
        "not ok 13 - create-vm.cpu1",
        "# EFER.SVME was 1, and KVM had not set it",
    ]


def test_suites_in_a_suite_are_flat_and_a_skipped_one_has_a_line() -> None:
    inner = Suite("bookworm", [Case("epyc", "pass"), Case("npt=0", "fail", "lost")])
    text = tap.render(Suite("matrix", [inner, Suite("trixie", skip="not-for-this-kernel")]))
    assert text.splitlines() == [
        "TAP version 13",
        "1..3",
        "ok 1 - bookworm.epyc",
        "not ok 2 - bookworm.npt=0",
        "# lost",
        "ok 3 - trixie # SKIP not-for-this-kernel",
    ]


def test_hostile_values_add_no_line_and_no_name() -> None:
    evil = "a\nBail out!\nnot ok 1 b # SKIP \x1b[31m\ud800\x00"
    text = tap.render(Suite("evil", [Case("a#b\nok 2", ERROR, evil, more=[evil])], properties={"x\n1..7": evil}))
    _, (result,) = _read(text)
    assert (result.ok, result.skip) == (False, False)
    assert [line[:2] for line in text.splitlines()] == ["TA", "1.", "# ", "no", "# ", "# "]
    assert not [line for line in Parser().parse_text(text) if isinstance(line, Bail)]


def test_the_command_and_the_name_of_a_file(tmp_path: Path) -> None:
    stored = EVIDENCE / "matrix/bookworm/epyc.json"
    done = kvmprobe("judge", stored, "-o", tmp_path / "run.tap")
    assert done.returncode == 0, done.stderr
    _, results = _read((tmp_path / "run.tap").read_text())
    assert all(result.ok for result in results)
    assert kvmprobe("judge", stored, "--format", "tap").stdout == (tmp_path / "run.tap").read_text()
