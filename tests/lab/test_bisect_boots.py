"""git bisects a history of machines that real kernels boot on, with `kvmprobe lab run --exit-status bisect`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from kvmprobe.lab.kernels import Kernel
from tests.helpers.git_history import GitHistory
from tests.helpers.run_kvmprobe import PROJECT

_GOOD = "--cpu EPYC,+svm"
_BAD = "--cpu EPYC,-svm"
_LOST = "--cpu EPYC,+svm --append rdinit=/no/such/program"  # the kernel panics, as one that hangs early


def test_git_finds_the_planted_commit_around_a_boot_that_is_lost(
    real_kernel: Callable[[str], Kernel], tmp_path: Path
) -> None:
    kernel = real_kernel("bookworm")
    # git tries commit 3 first, which is lost, and then commits beside it.
    history = GitHistory(tmp_path, [_GOOD, _GOOD, _GOOD, _LOST, _GOOD, _BAD, _BAD], "machine")
    boot = f"-m kvmprobe lab run {kernel.name} $(head -1 machine) -q --deadline 600 --exit-status bisect"
    found = history.first_bad("env", f"PYTHONPATH={PROJECT}", "sh", "-c", f"exec {sys.executable} {boot}")
    assert found == "commit 5"
