"""A part of `scripts/mutants`: Debian's KVM with mistakes in it, built here, booted, and caught by the named commands.

One mistake of each kind: a register, the guest, KVM's uevents, what a VM leaves, an answer that changed, a time.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmprobe.lab.kernels import Kernel
from tests.helpers.run_kvmprobe import PROJECT

pytestmark = pytest.mark.kernel

_DEADLINE_S = 3000.0
_MUTANTS = (
    "enable_cpu0_only",
    "disable_keeps_hsave",
    "io_size_2",
    "event_pid_wrong",
    "module_leak",
    "capability_lost",
    "slow_destroy",
    "create_fails_1_in_50",
)


def test_each_mistake_is_caught_by_the_command_that_should(
    real_kernel: Callable[[str], Kernel], tmp_path: Path
) -> None:
    real_kernel("bookworm")  # or the test is skipped
    command = [sys.executable, str(PROJECT / "scripts/kernel_mutants"), "--named", "--only", ",".join(_MUTANTS)]
    done = subprocess.run(
        [*command, "--answers", str(tmp_path)], capture_output=True, text=True, timeout=_DEADLINE_S, check=False
    )
    count = len(_MUTANTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{count} mutants, {count} of which can be seen from user space. Some command catches {count}" in done.stdout
