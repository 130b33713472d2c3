"""Faults by the hundred: every system call of a probe fails, probes run side by side, probes are killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.counted import NUMBERS
from tests.helpers.run_kvmprobe import PROJECT, kvmprobe

pytestmark = pytest.mark.usefixtures("kvm_device", "no_vm_left")

PROBES = 1000
AT_ONCE = 25
KILLS = 500
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def sweep(what: str, arguments: list[str], command: list[str]) -> dict[str, Any]:
    """The result of a sweep of faults over a command of Python's -m."""
    if not shutil.which("strace"):
        pytest.skip("no strace (apt-get install strace)")
    jobs = str((os.cpu_count() or 1) + 1)
    program = [sys.executable, "-m", "tests.helpers.sweep", *arguments, "--jobs", jobs, "--"]
    done = subprocess.run(
        [*program, sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    NUMBERS.append(f"faults {what}: {found['tried']} tried, {len(found['wrong'])} wrong")
    assert found["wrong"] == {}
    assert found["injected"] > 0.9 * found["tried"]
    return found


def test_every_system_call_fails_with_every_errno() -> None:
    """Of kvmprobe; and one of each kind in each child that it starts."""
    found = sweep("on this host", ["--children", "1"], ["kvmprobe", "check", "--json"])
    assert found["calls"] > 40
    # The guest's watcher, and what loads and unloads modules where the kernel can.
    assert found["children"] == 1 + os.path.exists("/proc/modules") or os.geteuid() != 0


def test_calls_of_the_child_that_loads_and_unloads_modules_fail(tmp_path: Path) -> None:
    """Others in each run: any two of each kind."""
    if os.geteuid() != 0:
        pytest.skip("strace can attach to any process as root only")
    command = ["tests.helpers.fake_module_load", str(tmp_path)]
    found = sweep("in the child that loads modules", ["--only", " child$", "--children", "2"], command)
    assert found["calls"] > 10


def test_a_thousand_probes_side_by_side_give_one_verdict() -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = list(pool.map(lambda _: kvmprobe("check", "--json", "--no-load"), range(PROBES)))
    reasons: dict[str, int] = {}
    for one in done:
        reason = json.loads(one.stdout)["verdict"]["reason"]
        reasons[reason] = reasons.get(reason, 0) + 1
    NUMBERS.append(f"probes side by side: {len(done)} tried, reasons {reasons}")
    assert len(reasons) == 1


def test_five_hundred_ended_probes_leave_no_vm() -> None:
    """They are ended at random moments of a probe's life, which is measured first, from the start of Python on.

    A signal that kvmprobe handles gives its exit status, or ends it before it can handle it.
    """
    started = time.monotonic()
    kvmprobe("check", "--json")
    life = time.monotonic() - started
    ended = dict.fromkeys(SIGNALS, 0)
    for i in range(KILLS):
        signum = SIGNALS[i % len(SIGNALS)]
        command = [sys.executable, "-S", "-m", "kvmprobe", "check", "--json"]
        with subprocess.Popen(
            command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as probe:
            time.sleep(random.uniform(0, life))
            probe.send_signal(signum)
            stderr = probe.communicate()[1]
        if probe.returncode in (-signum, 128 + signum):
            ended[signum] += 1
            assert is_clean(stderr), stderr
        else:
            assert probe.returncode in (0, 1, 3, 4), stderr
    NUMBERS.append(f"probes ended by signals: {KILLS} tried, {sum(ended.values())} before their end")
    assert min(ended.values()) > KILLS / len(SIGNALS) / 4


def is_clean(stderr: str) -> bool:
    """Whether it has no traceback. That of SIGINT while Python starts, until kvmprobe/cli/__init__.py has its hook, is
    none of ours."""
    others = stderr.replace("kvmprobe/cli/__init__.py", "")
    return "Traceback" not in stderr or (stderr.endswith("KeyboardInterrupt\n") and "kvmprobe/cli/" not in others)
