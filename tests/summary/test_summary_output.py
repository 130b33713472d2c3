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
from tests.helpers.summaries import SUMMARY_SCHEMA, summary, summary_of


def two_kinds_of_firmware() -> list[Any]:
    """A fleet of 40 hosts. SVM is disabled in the firmware of three, which differ in VM_CR and so in their texts."""
    likes = {11: "svmdis-locked", 23: "svmdis", 31: "svmdis"}
    names = [(f"node-{index:02}", f"matrix/bookworm/{likes.get(index, 'epyc')}") for index in range(40)]
    return [host(name, like, model_name="EPYC") for name, like in names]


def test_failed_hosts_have_a_line_each_before_all_else(tmp_path: Path) -> None:
    reports = two_kinds_of_firmware()
    reports[7] = host("node-07", "matrix/bookworm/svme-not-set", model_name="EPYC")
    head, failed, *rest = kvmprobe("summary", write_reports(tmp_path, reports)).stdout.split("\n\n")
    assert head.startswith("40 hosts, reports from ")
    title, *kinds = failed.splitlines()
    assert title == "Failed: 4 of 40 hosts"
    assert [line.split()[0] for line in kinds] == [
        *("firmware-disabled:", "node-11", "node-23", "node-31", "what"),
        *("svme-not-set:", "node-07", "what"),
    ]
    assert kinds[1].startswith("  node-11  VM_CR = 0x18")
    assert kinds[2].startswith("  node-23  VM_CR = 0x10")
    assert not any("what to do" in section for section in rest)


def test_a_text_stands_beside_the_hosts_that_it_is_true_of(tmp_path: Path) -> None:
    reports = {report["evidence"]["host"]["name"]: report for report in two_kinds_of_firmware()}
    data, _ = summary(write_reports(tmp_path, reports.values()))
    (group,) = data["outliers"]
    assert [verdict["hosts"] for verdict in group["verdicts"]] == [["node-23", "node-31"], ["node-11"]]
    for verdict in group["verdicts"]:
        for name in verdict["hosts"]:
            assert {key: verdict[key] for key in ("status", "reason", "summary", "hint")} == {
                key: reports[name]["verdict"][key] for key in ("status", "reason", "summary", "hint")
            }


def test_the_text_of_many_failed_hosts_stays_short() -> None:
    reports = equal_hosts(400)
    likes = ("svmdis", "svmdis-locked", "svme-not-set", "svme-not-cleared")
    for number in range(31):
        reports[number * 12] = host(f"node-{number * 12}", f"matrix/bookworm/{likes[number % 4]}")
    result = summary_of(reports)
    text = summary_text.render(result, width=80)
    assert text.count("\n") < 90
    shown = [line for line in text.splitlines() if line.startswith("  node-") and "," not in line.split()[0]]
    assert len(shown) == 31
    assert all(len(line) <= 80 for line in shown)
    hints = [report["verdict"]["hint"] for report in map(host, "a" * 4, (f"matrix/bookworm/{like}" for like in likes))]
    assert all("".join(text.split()).count("".join(hint.split())) == 1 for hint in hints)
    reports = [host(f"node-{number}", f"matrix/bookworm/{likes[number % 4]}") for number in range(400)]
    assert summary_text.render(summary_of(reports), width=80).count("\n") < 120
    assert summary_text.render(summary_of(reports), verbose=1).count("\n  node-") >= 400


def test_an_inconclusive_kind_has_each_text_once(tmp_path: Path) -> None:
    reports = [host(f"node-{index}", "matrix/bookworm/ordinary-user") for index in range(12)]
    _, inconclusive, *_ = kvmprobe("summary", write_reports(tmp_path, reports)).stdout.split("\n\n")
    title, kind, text, hint = inconclusive.splitlines()
    assert (title, kind) == ("Inconclusive: 12 of 12 hosts", "kvm-not-permitted: 12 hosts")
    assert text.startswith(
        f"  {', '.join(f'node-{index}' for index in range(8))} and 4 more: /dev/kvm cannot be opened: "
    )
    assert hint.startswith("  what to do: ")


def test_outliers_show_what_is_unusual_beyond_the_verdict(tmp_path: Path) -> None:
    reports = [*equal_hosts(11), host("node-11", "matrix/bookworm/svme-not-set"), host("node-12", microcode="0x9")]
    done = kvmprobe("summary", write_reports(tmp_path, reports))
    first, *groups = done.stdout.split("\nOutliers: ")[1].split("\n\n")[0].split("\n[")
    assert first == "hosts that differ from most with the same CPU model and kernel"
    failed, other = (group.splitlines() for group in groups)
    assert failed[0] == "    FAILED    ] node-11"
    assert failed[1].startswith("  among 13 hosts with AMD EPYC Processor, Linux 6.1")
    assert failed[2:] == ["  warnings: guest (usual: none, on 12 hosts)"]
    assert other[0] == "   OUTLIER    ] node-12"
    assert other[2] == "  microcode: 0x9 (usual: 0x1000065, on 12 hosts)"
    assert done.stdout.endswith("FAILED: 1 failed, 12 confirmed, 2 outliers\n")


@pytest.mark.parametrize("width", [40, 80])
def test_lines_are_wrapped_at_spaces(width: int) -> None:
    result = summary_of(readme_fleet())
    text = summary_text.render(result, verbose=1, width=width)
    assert "".join(text.split()) == "".join(summary_text.render(result, verbose=1).split())
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


def test_the_page_lists_failed_hosts_first() -> None:
    reports = two_kinds_of_firmware()
    reports[35] = host("node-35", "matrix/bookworm/ordinary-user")
    page = fleet_page.render(summary_of(reports))
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    names = [row[0] for row in data["hosts"]]
    assert names[:4] == ["node-11", "node-23", "node-31", "node-35"]
    assert names[4:] == sorted(names[4:])
    texts = {whose: text for group in data["outliers"] for _, whose, text, _ in group["texts"]}
    assert texts["node-11"].startswith("VM_CR = 0x18")
    assert texts["node-23, node-31"].startswith("VM_CR = 0x10")


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
