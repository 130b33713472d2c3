"""--also: one report in many formats. A file that cannot be written does not stop the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvmprobe.formats import REPORT_FORMATS, SUITE_FORMATS, render
from tests.helpers.recorded_evidence import EVIDENCE
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT, kvmprobe

ANYWHERE = {**os.environ, "PYTHONPATH": str(PROJECT)}
CONFIRMED = EVIDENCE / "matrix/bookworm/epyc.json"
FAILED = EVIDENCE / "matrix/bookworm/no-svm.json"


def _also(folder: Path, *names: str) -> list[str]:
    return [part for name in names for part in ("--also", f"{name}:{folder / name}")]


def test_each_file_has_what_its_format_alone_would_have_written(tmp_path: Path) -> None:
    done = kvmprobe("judge", CONFIRMED, "--json", *_also(tmp_path, "text", *SUITE_FORMATS))
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    for name in ("text", *SUITE_FORMATS):
        assert (tmp_path / name).read_text() == render(report, name)
    assert {path.name for path in tmp_path.iterdir()} == {"text", *SUITE_FORMATS}


@pytest.mark.parametrize("command", ["check", "judge", "trace", "watch", "soak"])
def test_every_command_with_a_report_has_the_option(command: str) -> None:
    assert "--also FORMAT:FILE" in kvmprobe(command, "--help").stdout


@pytest.mark.parametrize("arguments", [("compare", CONFIRMED, FAILED), ("lab", "run")])
def test_a_result_about_many_reports_has_no_metrics(arguments: tuple[str, ...]) -> None:
    done = kvmprobe(*arguments, "--format", "prometheus")
    assert (done.returncode, done.stdout) == (64, "")
    assert "invalid choice: 'prometheus'" in done.stderr


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("xml:FOLDER/a", "there is no such format"),
        ("json", "no FILE"),
        ("json:", "an empty name"),
        ("json:FOLDER", "is a folder"),
        ("json:FOLDER/a/", "is a folder"),
        ("json:FOLDER/none/a", "there is no folder"),
        ("json:FOLDER/taken", "another format is written there"),
        ("json:FOLDER/link", "another format is written there"),
        ("json:FOLDER/loop", "there is no folder"),
    ],
)
def test_a_bad_file_name_is_refused_before_any_work(argument: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("taken")
    (tmp_path / "loop").symlink_to("loop/loop")
    target = argument.replace("FOLDER", str(tmp_path))
    done = kvmprobe("judge", "/nonexistent", "-o", tmp_path / "taken", "--also", target)
    assert done.returncode == 64
    assert done.stderr.splitlines()[0].startswith(f"kvmprobe: --also {target.rstrip(':')}: {complaint}")
    if complaint == "there is no such format":
        assert all(name in done.stderr for name in REPORT_FORMATS)
    assert not (tmp_path / "taken").exists()


@pytest.mark.parametrize("name", ["/dev/stdout", "-"])
def test_only_one_format_goes_to_standard_output(name: str) -> None:
    done = kvmprobe("judge", CONFIRMED, "--also", f"json:{name}")
    assert (done.returncode, done.stdout) == (64, "")


def test_a_hyphen_is_standard_output(tmp_path: Path) -> None:
    options = ("-q", "-o", tmp_path / "text", "--also", "json:-")
    done = kvmprobe("judge", CONFIRMED, *options, cwd=tmp_path, env=ANYWHERE)
    assert json.loads(done.stdout)["verdict"]["status"] == "confirmed"
    done = kvmprobe("judge", CONFIRMED, "-q", "-o", "-", cwd=tmp_path, env=ANYWHERE)
    assert done.stdout == (tmp_path / "text").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"text"}


def test_a_descriptor_of_the_caller_can_be_a_target(tmp_path: Path) -> None:
    command = f"{sys.executable} -m kvmprobe judge -q {CONFIRMED} --also json:/dev/fd/3 3>{tmp_path}/json"
    subprocess.run(["bash", "-c", command], cwd=PROJECT, timeout=DEADLINE_S, check=True, stdout=subprocess.DEVNULL)
    assert json.loads((tmp_path / "json").read_text())["verdict"]["status"] == "confirmed"


@pytest.mark.parametrize("main", [(), ("-o", "/dev/full")])
def test_the_other_files_are_written_if_one_cannot_be(main: tuple[str, ...], tmp_path: Path) -> None:
    """Every problem is reported, and the exit status is not the verdict's."""
    targets = ("--also", "json:/dev/full", *_also(tmp_path, "json", "ktap"))
    done = kvmprobe("judge", "-q", CONFIRMED, *main, *targets)
    assert done.returncode == 3
    assert done.stdout[:9] == ("" if main else "CONFIRMED")
    complaint = "cannot write the result to /dev/full: No space left on device"
    assert done.stderr == f"kvmprobe: {'; '.join([complaint] * (2 if main else 1))}\n"
    assert json.loads((tmp_path / "json").read_text())["verdict"]["status"] == "confirmed"
    assert (tmp_path / "ktap").read_text().startswith("KTAP version 1\n")


@pytest.mark.parametrize(("name", "status", "first"), [("text", 1, "FAILED"), ("nagios", 2, "KVMPROBE CRITICAL")])
def test_a_failed_host_stays_failed_if_a_file_cannot_be_written(name: str, status: int, first: str) -> None:
    failed = EVIDENCE / "matrix/bookworm/held-first.json"
    options = ("--max-age", "99999d", "--format", name, "--also", "json:/dev/full")
    done = kvmprobe("judge", "-q", failed, *options)
    assert (done.returncode, done.stdout[: len(first)]) == (status, first)
    assert ("No space left on device" in done.stderr) == (name == "text")  # an agent gets one result


def test_the_files_are_written_if_standard_output_is_closed(tmp_path: Path) -> None:
    command = f"{sys.executable} -m kvmprobe judge {CONFIRMED} --also json:{tmp_path}/json >&-"
    done = subprocess.run(["bash", "-c", command], cwd=PROJECT, timeout=DEADLINE_S, check=False, capture_output=True)
    assert done.returncode == 3
    assert json.loads((tmp_path / "json").read_text())["verdict"]["status"] == "confirmed"


@pytest.mark.parametrize(("report", "status"), [(CONFIRMED, 65), (FAILED, 1)])
def test_the_other_files_are_written_if_a_format_cannot_show_the_report(
    report: Path, status: int, tmp_path: Path
) -> None:
    """NFD features need a time to expire, metrics do not."""
    data = json.loads(report.read_text())
    data["evidence"]["taken_at"] = "2026-11-22 16:07"
    done = kvmprobe("judge", "-q", "-", *_also(tmp_path, "nfd", "prometheus"), input=json.dumps(data))
    assert (done.returncode, {path.name for path in tmp_path.iterdir()}) == (status, {"prometheus"})
    assert "features need one to expire" in done.stderr


def test_a_pipe_without_a_reader_does_not_stop_standard_output(tmp_path: Path) -> None:
    command = (
        f"{sys.executable} -m kvmprobe judge --format nagios --max-age 9999d {CONFIRMED} --also json:/dev/fd/3 3> >(:)"
    )
    done = subprocess.run(["bash", "-c", command], cwd=PROJECT, timeout=DEADLINE_S, check=False, capture_output=True)
    assert done.returncode == 0
    assert done.stdout.startswith(b"KVMPROBE OK")


def test_the_current_folder_may_be_gone_where_full_paths_are_given(tmp_path: Path) -> None:
    code = "import os, kvmprobe.cli.main as cli; os.rmdir(os.getcwd()); cli.entry()"
    for target, status in ((str(tmp_path / "json"), 0), ("json", 64)):
        (tmp_path / "gone").mkdir(exist_ok=True)
        command = [sys.executable, "-c", code, "judge", str(CONFIRMED), "--also", f"json:{target}"]
        done = subprocess.run(
            command, cwd=tmp_path / "gone", env=ANYWHERE, capture_output=True, timeout=DEADLINE_S, check=False
        )
        assert done.returncode == status, done.stderr
        assert b"Traceback" not in done.stderr
