"""How a summary is written: safe text for any content, wrapped lines, the page of a large fleet, files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvmprobe.formats import html
from kvmprobe.summary import fleet_page, summary_text
from kvmprobe.summary.fleet import Fleet, natural
from kvmprobe.summary.fleet_summary import Summary
from kvmprobe.summary.report_records import Reader
from tests.helpers.fleet_reports import equal_hosts, host, lines, readme_fleet, write_reports
from tests.helpers.recorded_evidence import RECORDED
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT, kvmprobe
from tests.helpers.stored_files import ANYTHING, REPORTS, changed, paths
from tests.helpers.summaries import SUMMARY_SCHEMA, summary_of


def test_names_outliers_before_the_counts(tmp_path: Path) -> None:
    reports = [*equal_hosts(11), host("node-11", "matrix/bookworm/svme-not-set"), host("node-12", microcode="0x9")]
    done = kvmprobe("summary", write_reports(tmp_path, reports))
    first, *groups = done.stdout.split("\nOutliers: ")[1].split("\n\n")[0].split("\n[")
    assert first == "hosts that differ from most with the same CPU model and kernel"
    failed, other = (group.splitlines() for group in groups)
    assert failed[0] == "    FAILED    ] node-11"
    assert failed[1].startswith("  among 13 hosts with AMD EPYC Processor, Linux 6.1")
    assert failed[2] == "  verdict: failed svme-not-set (usual: confirmed, on 12 hosts)"
    assert other[0] == "   OUTLIER    ] node-12"
    assert other[2] == "  microcode: 0x9 (usual: 0x1000065, on 12 hosts)"
    assert done.stdout.endswith("FAILED: 1 failed, 12 confirmed, 2 outliers\n")


@pytest.mark.parametrize("width", [40, 80])
def test_lines_are_wrapped_at_spaces(width: int) -> None:
    result = summary_of(readme_fleet())
    text = summary_text.render(result, width=width)
    assert "".join(text.split()) == "".join(summary_text.render(result).split())
    prose = [line for line in text.splitlines() if "what to do" in line]
    assert prose
    assert all(len(line) <= width for line in prose)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    name = "\x1b]0;owned\x07\nFAILED\u202e\ud800"
    report = host(name, microcode=name, model_name=name)
    report["evidence"]["kernel"]["release"] = name
    report["verdict"]["summary"] = report["verdict"]["hint"] = name
    write_reports(tmp_path, [report, *(host(f"n{index}", model_name=name, microcode="0x1") for index in range(3))])
    for arguments in ((), ("-v",), ("-v", "--only", "confirmed"), ("-q", "--only", "confirmed"), ("--json", "-v")):
        out = kvmprobe("summary", *arguments, tmp_path).stdout
        assert out.isascii() or "\u202e" not in out
        assert all(line.isprintable() for line in out.splitlines())
        assert "FAILED\n" not in out
    write_reports(tmp_path, [host("x" * 300)])
    assert "host.name is longer than 255 characters" in kvmprobe("summary", tmp_path).stdout


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    place=st.sampled_from([(report, path) for report in REPORTS for path in paths(report) if path]),
    value=st.just(...)
    | st.sampled_from([None, "", "0x0", "0-7", {"error": 7}, -1, True, [], {}, "x" * 5000])
    | ANYTHING,
)
def test_any_change_to_a_stored_report_is_counted_or_rejected(place: tuple[Any, Any], value: Any) -> None:
    """A report that is counted can be written in every format."""
    report, path = place
    block = changed(*path, value=value, report=report)
    found, bad, _ = Reader(judge_all=False, with_details=True)((("file", 1, True), block))
    assert len(found) + len(bad) == 1
    assert all("\n" not in why for _, _, why in bad)
    fleet = Fleet()
    for file, line, values in found:
        fleet.add(file, line, values)
    result = Summary(fleet)
    jsonschema.validate(json.loads(json.dumps(result.data(True))), SUMMARY_SCHEMA)
    assert summary_text.render(result, 1)
    assert fleet_page.render(result)


def test_a_page_has_the_hosts_that_need_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_page, "HOSTS", 20)
    reports = [host(f"n{index}") for index in range(200)]
    for index in (3, 100, 199):
        reports[index] = host(f"n{index}", "matrix/bookworm/svmdis")
    reports[50] = host("n50", microcode="0x9")
    result = summary_of(reports)
    outliers = {one for group in result.outliers for one in group.hosts}
    chosen = [one.name for one in fleet_page.choose(result.hosts, outliers)]
    assert len(chosen) == 20
    assert {"n3", "n50", "n100", "n199"} < set(chosen)
    assert chosen == sorted(chosen, key=natural)
    assert max(int(name[1:]) for name in chosen if name != "n199") > 150  # a sample of all others, not the first ones
    assert "The table has 20 of 200 hosts" in fleet_page.render(result)


def test_a_page_has_failed_hosts_before_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_page, "HOSTS", 20)
    reports = [host(f"a{index}", "matrix/bookworm/intel") for index in range(30)]
    reports += [host(f"b{index}", "matrix/bookworm/ordinary-user") for index in range(30)]
    reports.append(host("z", "matrix/bookworm/svmdis"))
    chosen = [one.name for one in fleet_page.choose(summary_of(reports).hosts, set())]
    assert [len([name for name in chosen if name[0] == letter]) for letter in "abz"] == [0, 19, 1]


ZIPAPP = """
import pathlib, shutil, sys, tempfile, zipapp
with tempfile.TemporaryDirectory() as temp:
    shutil.copytree("kvmprobe", temp + "/kvmprobe", ignore=shutil.ignore_patterns("__pycache__"))
    zipapp.create_archive(temp, sys.argv[1], main="kvmprobe.cli.main:entry")
"""


def test_a_zipapp_writes_the_same_page(tmp_path: Path) -> None:
    """The archive contains the parts of the page and needs nothing else."""
    archive = tmp_path / "kvmprobe.pyz"
    subprocess.run([sys.executable, "-c", ZIPAPP, str(archive)], check=True, cwd=PROJECT, timeout=DEADLINE_S)
    write_reports(tmp_path, equal_hosts(2))
    command = [sys.executable, "-I", str(archive), "summary", "--format", "html", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == kvmprobe("summary", "--format", "html", tmp_path).stdout


def test_a_result_in_a_file_leaves_stdout_empty(tmp_path: Path) -> None:
    write_reports(tmp_path, equal_hosts(2))
    for form in ("text", "json", "html"):
        target = tmp_path / f"out.{form}"
        done = kvmprobe("summary", "--format", form, "-o", target, tmp_path / "0.json")
        assert (done.returncode, done.stdout) == (0, "")
        assert target.read_text()


def test_the_page_of_one_report_is_a_format_of_judge() -> None:
    report = json.loads(RECORDED[0].read_text())
    done = kvmprobe("judge", RECORDED[0], "--format", "html")
    assert done.stdout == html.render(report)
    assert kvmprobe("compare", RECORDED[0], RECORDED[0], "--format", "html").returncode == 64


def test_the_lines_of_a_large_fleet_are_short_without_verbose() -> None:
    reports = [host(f"n{index}", microcode=hex(index)) for index in range(60)]
    text = summary_text.render(summary_of(reports))
    assert "  and 40 more values (-v lists all)" in text
    assert text.count("\n") < 60
    assert len(lines(reports)) > 100 * len(text)
