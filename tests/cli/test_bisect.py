"""--exit-status bisect and --expect, and what git makes of them in histories with a planted commit."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from kvmprobe.model.bisect_status import SKIP, bisect_status
from kvmprobe.model.errors import EXIT_DATA, EXIT_SOFTWARE, EXIT_USAGE
from tests.helpers.git_history import GitHistory
from tests.helpers.recorded_evidence import EVIDENCE
from tests.helpers.run_kvmprobe import PROJECT, kvmprobe

_MATRIX = EVIDENCE / "matrix/bookworm"
_GOOD, _BAD = _MATRIX / "epyc.json", _MATRIX / "svme-not-set.json"
_UNDECIDED = _MATRIX / "ordinary-user.json"
_OTHER_CPU = _MATRIX / "amd-as-intel.json"
_BISECT = ("--exit-status", "bisect")


@pytest.mark.parametrize(("file", "status"), [(_GOOD, 0), (_BAD, 1), (_UNDECIDED, SKIP), (_OTHER_CPU, SKIP)])
def test_the_verdict_for_bisect(file: Path, status: int) -> None:
    assert kvmprobe("judge", file, *_BISECT).returncode == status
    assert kvmprobe("judge", file, "--exit-status=bisect").returncode == status


@pytest.mark.parametrize(
    ("file", "reason", "status", "for_bisect"),
    [
        (_BAD, "svme-not-set", 0, 0),
        (_BAD, "cpu-lacks-svm", 1, 1),
        (_GOOD, "svme-not-set", 1, 1),
        (_UNDECIDED, "kvm-not-permitted", 0, 0),
        (_UNDECIDED, "svme-not-set", 3, SKIP),
        (_OTHER_CPU, "svme-not-set", 4, SKIP),
    ],
)
def test_an_expected_reason_is_good(file: Path, reason: str, status: int, for_bisect: int) -> None:
    assert kvmprobe("judge", file, "--expect", reason).returncode == status
    assert kvmprobe("judge", file, "--expect", reason, *_BISECT).returncode == for_bisect


def test_this_host() -> None:
    """It has no SVM, or nobody knows: good is only what was expected."""
    reason = kvmprobe("check", "-q").stdout.split(":")[0].split()[-1]
    assert kvmprobe("check", "--expect", reason, *_BISECT).returncode == 0
    assert kvmprobe("check", *_BISECT).returncode in (1, SKIP)


def test_compare_for_bisect(tmp_path: Path) -> None:
    assert kvmprobe("compare", _GOOD, _GOOD, *_BISECT).returncode == 0
    assert kvmprobe("compare", _GOOD, _BAD, *_BISECT).returncode == 1
    (tmp_path / "damaged").write_text("?")
    assert kvmprobe("compare", _GOOD, tmp_path / "damaged", *_BISECT).returncode == 128 + EXIT_DATA


@pytest.mark.parametrize(
    "arguments",
    [
        ("judge", _GOOD, *_BISECT, "--no-such-option"),
        ("judge", _GOOD, "--exit-status", "bisect", "--expect", "svme-not-sett"),
        ("lab", "run", *_BISECT, "--kernel", "/no/such/bzImage", "--modules", "/no/such/folder"),
        ("lab", "matrix", *_BISECT, "--only", "no-such-scenario"),
        ("check", *_BISECT, "--format", "nagios", "-o", "/dev/null"),
    ],
)
def test_no_commit_is_to_blame_for_wrong_arguments(arguments: tuple[str, ...]) -> None:
    assert kvmprobe(*arguments).returncode >= 128


def test_a_defect_and_a_signal_stop_the_bisection() -> None:
    assert [bisect_status(status) for status in (EXIT_USAGE, EXIT_DATA, EXIT_SOFTWARE)] == [192, 193, 198]
    assert [bisect_status(128 + number) for number in (1, 2, 15)] == [129, 130, 143]


def test_an_expected_reason_must_exist_and_a_former_name_counts() -> None:
    done = kvmprobe("judge", _BAD, "--expect", "svme-not-sett")
    assert (done.returncode, "did you mean svme-not-set?" in done.stderr) == (64, True)
    assert kvmprobe("judge", _BAD, "--expect", "witnesses-disagree").returncode == 1


def test_what_follows_the_separator_is_another_programs() -> None:
    done = kvmprobe("watch", "--no-load", "--", sys.executable, "-c", "raise SystemExit(1)", *_BISECT)
    assert done.returncode < 125


@pytest.mark.parametrize("seed", range(20))
def test_git_finds_the_planted_commit(tmp_path: Path, seed: int) -> None:
    """A history of 16 commits, each with the report of its kernel. Some boots give none that decides."""
    choose = random.Random(seed)
    planted = choose.randrange(1, 16)
    # Next to the planted commit nothing is skipped: git could not distinguish them.
    lost = set(choose.sample([number for number in range(1, 15) if number not in (planted - 1, planted)], 4))
    reports = [_UNDECIDED if number in lost else _BAD if number >= planted else _GOOD for number in range(16)]
    history = GitHistory(tmp_path, [str(report) for report in reports], "report")
    script = f'exec {sys.executable} -m kvmprobe judge "$(head -1 report)" -q {" ".join(_BISECT)}'
    assert history.first_bad("env", f"PYTHONPATH={PROJECT}", "sh", "-c", script) == f"commit {planted}"
