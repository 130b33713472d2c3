"""scripts/bench: it runs, and refuses an unknown name."""

from __future__ import annotations

import subprocess
import sys

from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROJECT / "scripts/measurements"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=DEADLINE_S, check=False)


def test_one_round_of_a_check() -> None:
    done = bench("check", "--rounds", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "kvmprobe check --json takes" in done.stdout
    assert "its peak memory is" in done.stdout
    assert done.stdout.count("== ") == 1


def test_an_unknown_name() -> None:
    done = bench("tests")
    assert done.returncode == 2
    assert "tests is none of check, observers, cycles, cpus, lab, summary" in done.stderr
