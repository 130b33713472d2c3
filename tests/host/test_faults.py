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

import pytest

from tests.helpers.counted import NUMBERS
from tests.helpers.run_kvmprobe import PROJECT, kvmprobe

pytestmark = pytest.mark.usefixtures("kvm_device", "no_vm_left")

PROBES = 1000
AT_ONCE = 25
KILLS = 500


def test_every_system_call_fails_with_every_errno() -> None:
    if not shutil.which("strace"):
        pytest.skip("no strace (apt-get install strace)")
    command = [sys.executable, "-m", "kvmprobe", "check", "--json"]
    jobs = str((os.cpu_count() or 1) + 1)
    sweep = [sys.executable, str(PROJECT / "tests/helpers/sweep.py"), "--jobs", jobs]
    done = subprocess.run([*sweep, "--", *command], capture_output=True, text=True, cwd=PROJECT, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    NUMBERS.append(f"faults on this host: {found['tried']} tried, {len(found['wrong'])} wrong")
    assert found["wrong"] == {}
    assert found["calls"] > 40
    assert found["injected"] > 0.9 * found["tried"]


def test_a_thousand_probes_side_by_side_give_one_verdict() -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = list(pool.map(lambda _: kvmprobe("check", "--json", "--no-load"), range(PROBES)))
    reasons: dict[str, int] = {}
    for one in done:
        reason = json.loads(one.stdout)["verdict"]["reason"]
        reasons[reason] = reasons.get(reason, 0) + 1
    NUMBERS.append(f"probes side by side: {len(done)} tried, reasons {reasons}")
    assert len(reasons) == 1


def test_five_hundred_killed_probes_leave_no_vm() -> None:
    """They are killed at random moments of a probe's life, which is measured first."""
    started = time.monotonic()
    kvmprobe("check", "--json")
    life = time.monotonic() - started
    ended = 0
    for _ in range(KILLS):
        command = [sys.executable, "-m", "kvmprobe", "check", "--json"]
        with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as probe:
            time.sleep(random.uniform(0, life))
            probe.send_signal(signal.SIGKILL)
        ended += probe.returncode == -signal.SIGKILL
    NUMBERS.append(f"probes killed: {KILLS} tried, {ended} before their end")
    assert ended > KILLS / 4
