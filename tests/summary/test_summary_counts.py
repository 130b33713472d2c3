"""What `kvmprobe summary` counts, which report of a host counts, and the exit status."""

from __future__ import annotations

import collections
import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kvmprobe.model.times import format_time
from tests.helpers.fleet_reports import equal_hosts, host, write_reports
from tests.helpers.passive_variants import passive
from tests.helpers.recorded_evidence import RECORDED
from tests.helpers.run_kvmprobe import kvmprobe
from tests.helpers.summaries import SUMMARY_SCHEMA, counts, summary


def test_the_schema_is_a_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SUMMARY_SCHEMA)


def test_counts_all_recorded_reports() -> None:
    reports = [json.loads(path.read_text()) for path in RECORDED]
    data, status = summary("--all", *RECORDED)
    assert status == 1
    assert data["reports"] == {"read": len(RECORDED), "older": 0, "judged_again": 0, "bad": 0}
    for field, value in (
        ("status", lambda report: report["verdict"]["status"]),
        ("reason", lambda report: report["verdict"]["reason"]),
        ("kernel", lambda report: report["evidence"]["kernel"]["release"]),
        ("version", lambda report: report["tool"]["version"]),
    ):
        assert counts(data, field) == collections.Counter(map(value, reports))
    assert list(counts(data, "status").values()) == sorted(counts(data, "status").values(), reverse=True)


def test_stored_verdicts_are_those_of_judging_again() -> None:
    """In all that a summary shows, the verdicts that this version stored are those that it gives."""
    stored, _ = summary("--all", "-v", *RECORDED)
    again, _ = summary("--all", "-v", "--judge", *RECORDED)
    assert again["reports"].pop("judged_again") == len(RECORDED)
    assert stored["reports"].pop("judged_again") == 0
    assert again == stored


def test_reports_of_another_version_are_judged_again(tmp_path: Path) -> None:
    report = host("a", version="0.0.9")
    report["verdict"] = {"status": "failed", "reason": "cpu-lacks-svm", "summary": "from then", "hint": ""}
    del report["checks"]
    bare = host("b", "matrix/bookworm/svmdis")["evidence"]
    data, _ = summary("-v", write_reports(tmp_path, [report, bare]))
    assert [(one["host"], one["reason"], one["version"]) for one in data["hosts"]] == [
        ("a", "svme-set-by-create-vm", "0.0.9"),
        ("b", "firmware-disabled", "unknown"),
    ]
    assert data["reports"]["judged_again"] == 2


def test_a_stored_verdict_that_this_version_does_not_have_is_judged_again(tmp_path: Path) -> None:
    """Reasons and checks were renamed while this version was developed."""
    reports = [host("reason", "matrix/trixie/svmdis"), host("check"), host("status")]
    reports[0]["verdict"]["reason"] = "firmware-disabled-with-another-key"
    reports[1]["checks"][0]["id"] = "seller"
    reports[2]["verdict"]["status"] = "failed"
    data, _ = summary("-v", write_reports(tmp_path, reports))
    assert data["reports"] == {"read": 3, "older": 0, "judged_again": 3, "bad": 0}
    assert {one["host"]: one["status"] for one in data["hosts"]} == {
        "check": "confirmed",
        "reason": "failed",
        "status": "confirmed",
    }


def test_judge_finds_a_stored_verdict_that_is_wrong(tmp_path: Path) -> None:
    report = host("a", "matrix/bookworm/svmdis")
    report["verdict"] = host("b")["verdict"]
    write_reports(tmp_path, [report])
    assert counts(summary(tmp_path)[0], "status") == {"confirmed": 1}
    assert counts(summary("--judge", tmp_path)[0], "status") == {"failed": 1}


def test_only_the_newest_report_of_a_host_is_counted(tmp_path: Path) -> None:
    old = host("a", "matrix/bookworm/svmdis", taken_at="2026-11-01T00:00:00Z", model_name="EPYC 1")
    new = host("a", taken_at="2026-11-02T00:00:00Z", model_name="EPYC 1")
    write_reports(tmp_path, [new, old])
    data, status = summary(tmp_path)
    assert (status, counts(data, "status"), data["reports"]["older"]) == (0, {"confirmed": 1}, 1)
    assert data["several_models"] == []
    assert data["failed_earlier"] == ["a"]  # fixed, or another machine with that name: the last line shows it, too
    last = "CONFIRMED: 1 confirmed, 1 failed in an older report\n"
    assert kvmprobe("summary", "-q", tmp_path).stdout == last
    data, status = summary("--all", tmp_path)
    assert data["failed_earlier"] == []
    assert (status, counts(data, "status"), data["reports"]["older"]) == (1, {"confirmed": 1, "failed": 1}, 0)


def test_of_two_reports_with_the_same_time_the_failed_one_is_counted(tmp_path: Path) -> None:
    for order in (1, -1):
        names = ("matrix/bookworm/svmdis", "matrix/bookworm/epyc")[::order]
        reports = [host("a", name, taken_at="2026-11-01T00:00:00Z", model_name="EPYC 1") for name in names]
        data, status = summary(write_reports(tmp_path, reports))
        assert (status, counts(data, "status")) == (1, {"failed": 1})


def test_one_host_name_with_different_cpu_models_is_reported(tmp_path: Path) -> None:
    write_reports(tmp_path, [host("localhost", model_name=f"EPYC {index}") for index in range(3)])
    assert summary(tmp_path)[0]["several_models"] == ["localhost"]
    done = kvmprobe("summary", tmp_path)
    assert "2 older reports of the same hosts skipped" in done.stdout
    assert "One host name, different CPU models: 1 name\n  localhost\n" in done.stdout


GOOD, OTHER_VENDOR, UNKNOWN, FAILED = (
    f"matrix/bookworm/{name}" for name in ("epyc", "intel", "ordinary-user", "svmdis")
)


@pytest.mark.parametrize(
    ("likes", "extra", "status"),
    [
        ((), "", 65),
        ((GOOD,), "", 0),
        ((GOOD, OTHER_VENDOR), "", 0),
        ((OTHER_VENDOR,), "", 4),
        ((GOOD, UNKNOWN), "", 3),
        ((GOOD, UNKNOWN, FAILED), "", 1),
        ((GOOD,), "{}", 65),
        ((UNKNOWN,), "{}", 65),
        ((FAILED,), "{}", 1),
    ],
)
def test_exit_status(likes: tuple[str, ...], extra: str, status: int, tmp_path: Path) -> None:
    write_reports(tmp_path, [host(f"h{index}", like) for index, like in enumerate(likes)])
    if extra:
        (tmp_path / "bad.json").write_text(extra)
    assert kvmprobe("summary", "-q", tmp_path).returncode == status


def usable(name: str) -> Any:
    """The report of a host where a guest ran and the registers could not be read."""
    report = host(name)
    report["verdict"].update(status="usable", reason="guest-ran", summary="a guest ran on cpu0-1", hint="Run as root.")
    return report


def test_usable_hosts_are_good_and_differ_from_confirmed_ones(tmp_path: Path) -> None:
    write_reports(tmp_path, [usable("a")])
    assert kvmprobe("summary", "-q", tmp_path).stdout == "USABLE: 1 usable\n"
    write_reports(tmp_path, [usable("a"), *equal_hosts(3)])
    data, status = summary(tmp_path)
    assert (status, counts(data, "status")) == (0, {"confirmed": 3, "usable": 1})
    (outlier,) = data["outliers"]
    assert (outlier["hosts"], outlier["unusual"][0]["value"]) == (["a"], "usable guest-ran")
    assert [verdict["hint"] for verdict in outlier["verdicts"]] == ["Run as root."]
    assert kvmprobe("summary", "-q", "--only", "usable", tmp_path).stdout == "a\n"
    write_reports(tmp_path, [usable("a"), host("b", UNKNOWN)])
    for file in ("2.json", "3.json"):
        (tmp_path / file).unlink()
    assert kvmprobe("summary", "-q", tmp_path).returncode == 3


@pytest.mark.parametrize("like", ["epyc", "another-vm", "one-cpu-offline", "hygon"])
@pytest.mark.parametrize("kernel", ["bookworm", "trixie"])
def test_passive_reports_of_a_healthy_fleet_only_state_that_no_vm_was_created(
    kernel: str, like: str, tmp_path: Path
) -> None:
    write_reports(tmp_path, [passive(host(f"h{index}", f"matrix/{kernel}/{like}")["evidence"]) for index in range(4)])
    data, status = summary(tmp_path)
    assert (status, counts(data, "reason")) == (3, {"vm-not-created": 4})
    assert data["outliers"] == []


def test_wrong_arguments(tmp_path: Path) -> None:
    write_reports(tmp_path, equal_hosts(1))
    for arguments in (
        (),
        (tmp_path / "no such file",),
        ("-", "-"),
        (tmp_path, "--only", "broken"),
        (tmp_path, "--max-age", "0d"),
        (tmp_path, "--max-age", "soon"),
        (tmp_path, "--max-age", "26"),  # hours, or seconds?
        (tmp_path, "--jobs", "0"),
        (tmp_path, "--format", "ktap"),
        (tmp_path, "-o", tmp_path),
    ):
        done = kvmprobe("summary", *arguments, stdin=subprocess.DEVNULL)
        assert done.returncode == 64, arguments
        assert "kvmprobe" in done.stderr
    (tmp_path / "names").write_bytes(b"9" * 5000 + b"\n")  # more digits than int() takes
    assert kvmprobe("summary", tmp_path, "--expect", tmp_path / "names").returncode == 3
    for names in (b"", b"# none\n", b"\xff\xfe"):
        (tmp_path / "names").write_bytes(names)
        assert kvmprobe("summary", tmp_path, "--expect", tmp_path / "names").returncode == 65
    assert kvmprobe("summary", tmp_path, "--expect", tmp_path / "none").returncode == 65


def test_hosts_without_a_report_or_with_a_stale_one(tmp_path: Path) -> None:
    now = time.time()
    ages = {"old": 5 * 86400, "new": 60, "ahead": -86400}
    write_reports(tmp_path, [host(name, taken_at=format_time(now - age)) for name, age in ages.items()])
    names = tmp_path / "names"
    names.write_text("# all of them\nold\nnew  # yes\n\nnode10\nnode9\n")
    data, status = summary(tmp_path, "--max-age", "3d", "--expect", names)
    assert (status, data["missing"], [one["host"] for one in data["stale"]]) == (
        3,
        ["node9", "node10"],
        ["ahead", "old"],
    )
    assert summary(tmp_path, "--max-age", "9d")[0]["stale"][0]["host"] == "ahead"
    text = kvmprobe("summary", tmp_path, "--max-age", "3d", "--expect", names).stdout
    assert "No report from 2 hosts\n  node9, node10\n" in text
    assert text.endswith("INCONCLUSIVE: 3 confirmed, 2 without a report, 2 outside --max-age\n")
    assert summary(tmp_path)[1] == 0  # without --max-age the time does not matter


def test_only_lists_hosts(tmp_path: Path) -> None:
    reports = [*equal_hosts(3), host("x10", "matrix/bookworm/svmdis"), host("x9", "matrix/trixie/not-loaded")]
    write_reports(tmp_path, reports)
    assert kvmprobe("summary", tmp_path, "-q", "--only", "failed").stdout == "x9\nx10\n"
    done = kvmprobe("summary", tmp_path, "--only", "firmware-disabled", "--only", "inconclusive")
    assert re.fullmatch(r"x10  FAILED +firmware-disabled: VM_CR = .*\n", done.stdout)
    assert done.returncode == 1
    assert [one["host"] for one in summary(tmp_path, "--only", "failed")[0]["hosts"]] == ["x9", "x10"]
    assert summary(tmp_path)[0]["hosts"] == []
