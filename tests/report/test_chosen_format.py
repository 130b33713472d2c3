"""The format of --output follows the name of its file, and what was written is reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvmprobe.formats import FORMATS, render
from tests.helpers.recorded_evidence import EVIDENCE
from tests.helpers.run_kvmprobe import kvmprobe

CONFIRMED = EVIDENCE / "matrix/bookworm/epyc.json"
FAILED = EVIDENCE / "matrix/bookworm/no-svm.json"
SUFFIXES = [(name, suffix) for name, format in FORMATS.items() for suffix in format.suffixes]


@pytest.mark.parametrize(("name", "suffix"), [*SUFFIXES, ("json", ".JSON"), ("text", ".report"), ("text", "")])
def test_the_name_of_the_file_chooses_the_format(name: str, suffix: str, tmp_path: Path) -> None:
    target = tmp_path / f"report{suffix}"
    done = kvmprobe("judge", CONFIRMED, "-o", target)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"kvmprobe: wrote {target} ({name})\n"
    assert target.read_text() == render(json.loads(CONFIRMED.read_text()), name)


@pytest.mark.parametrize("chosen", [("--format", "text"), ("--format=text",)])
def test_an_option_chooses_it_against_the_name(chosen: tuple[str, ...], tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    assert kvmprobe("judge", CONFIRMED, "-o", target, *chosen).stderr == f"kvmprobe: wrote {target} (text)\n"
    assert target.read_text() == render(json.loads(CONFIRMED.read_text()), "text")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("compare", CONFIRMED, FAILED), "result.html"),
        (("compare", CONFIRMED, FAILED), "result.prom"),
        (("summary", CONFIRMED), "result.xml"),
        (("lab", "matrix"), "result.json"),
    ],
)
def test_a_format_that_the_command_does_not_have_is_refused(
    command: tuple[str | Path, ...], name: str, tmp_path: Path
) -> None:
    done = kvmprobe(*command, "-o", tmp_path / name)
    assert (done.returncode, done.stdout) == (64, "")
    first, second = done.stderr.splitlines()
    assert first.startswith(f"kvmprobe: --output {tmp_path / name}: this command cannot write ")
    assert second.startswith("  Name the format with --format: text, ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "status", "key"),
    [(("compare", CONFIRMED, FAILED), 1, "rating"), (("summary", CONFIRMED), 0, "hosts")],
    ids=["compare", "summary"],
)
def test_other_results_follow_the_name_too(
    command: tuple[str | Path, ...], status: int, key: str, tmp_path: Path
) -> None:
    target = tmp_path / "result.json"
    done = kvmprobe(*command, "-o", target)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", f"kvmprobe: wrote {target} (json)\n")
    assert key in json.loads(target.read_text())


@pytest.mark.parametrize("quiet", [("-q",), ("--format", "nagios", "--max-age", "9999d")])
def test_quiet_and_agents_get_no_line_about_it(quiet: tuple[str, ...], tmp_path: Path) -> None:
    assert kvmprobe("judge", CONFIRMED, "-o", tmp_path / "a", *quiet).stderr == ""
    assert (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/null"])
def test_what_is_no_file_is_not_reported(name: str) -> None:
    assert kvmprobe("judge", CONFIRMED, "-o", name).stderr == ""
