"""A process that pins itself, and the child that frees it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmprobe.host import guest, kvm, pin_watcher
from kvmprobe.host.pin_watcher import PinWatcher
from tests.helpers.waiting import wait_until

CPU = min(os.sched_getaffinity(0))
_LOOP = bytes((0xEB, 0xFE))  # jmp $


def stop_for(delay: float, seconds: float) -> subprocess.Popen[bytes]:
    """Stop this process `delay` seconds from now, and continue it `seconds` later."""
    stop, go_on = (f"os.kill({os.getpid()}, {int(signum)})" for signum in (signal.SIGSTOP, signal.SIGCONT))
    code = f"import os, time; time.sleep({delay}); {stop}; time.sleep({seconds}); {go_on}"
    return subprocess.Popen([sys.executable, "-S", "-c", code])


def test_a_process_that_makes_no_step_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pin_watcher, "STARVED_S", 0.3)
    affinity = os.sched_getaffinity(0)
    with PinWatcher() as watcher:
        watcher.pin(CPU)
        assert os.sched_getaffinity(0) == {CPU}
        assert not watcher.was_freed()
        assert wait_until(watcher.was_freed)
        assert wait_until(lambda: os.sched_getaffinity(0) == affinity)
        watcher.pin(CPU)
        assert not watcher.was_freed()
    assert os.sched_getaffinity(0) == affinity


def test_a_process_that_makes_steps_or_is_not_pinned_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pin_watcher, "STARVED_S", 1.0)
    with PinWatcher() as watcher:
        watcher.pin(CPU)
        for _ in range(30):
            time.sleep(0.05)
            watcher.step()
        assert not watcher.was_freed()
        watcher.unpin()
        time.sleep(1.5)
        assert not watcher.was_freed()


def test_the_time_in_which_a_process_was_stopped_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pin_watcher, "STARVED_S", 1.5)
    with PinWatcher() as watcher, stop_for(0.1, 2.5):
        watcher.pin(CPU)
        ends = time.monotonic() + 2.6
        while time.monotonic() < ends:
            time.sleep(0.05)
            watcher.step()
        assert not watcher.was_freed()


@pytest.mark.usefixtures("kvm_device")
def test_a_guest_has_its_whole_deadline_where_the_process_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "CODE", _LOOP)
    monkeypatch.setattr(guest, "RUN_DEADLINE_S", 2.0)
    with guest.GuestAlarm() as alarm, kvm.Kvm("/dev/kvm") as device, device.create_vm() as vm, stop_for(0.3, 2.5):
        started = time.monotonic()
        runs = guest.run_on_cpus(device, vm, [CPU], {CPU}, alarm)
        assert time.monotonic() - started > 2.5 + 1.5
    assert [run["result"] for run in runs] == ["timeout"]


_FROZEN = """
import sys, time
from kvmprobe.host import guest, kvm, pin_watcher
guest.CODE, guest.RUN_DEADLINE_S, pin_watcher.STARVED_S = bytes((0xEB, 0xFE)), 1.2, 1.0
cpu = int(input())
with guest.GuestAlarm() as alarm, kvm.Kvm("/dev/kvm") as device, device.create_vm() as vm:
    started = time.monotonic()
    print("runs", flush=True)
    runs = guest.run_on_cpus(device, vm, [cpu], {cpu}, alarm)
    print(runs[0]["result"], time.monotonic() - started)
"""
_FREEZE_S = 2.0


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A new cgroup whose processes can be frozen (Documentation/admin-guide/cgroup-v2.rst)."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    roots = [Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"]
    if not roots or os.geteuid() != 0:
        pytest.skip("root alone makes cgroups, in a mounted cgroup2")
    folder = roots[0] / f"kvmprobe-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        yield folder
    finally:
        assert wait_until(lambda: not (folder / "cgroup.procs").read_text())
        folder.rmdir()


@pytest.mark.usefixtures("kvm_device")
def test_the_time_in_a_frozen_cgroup_does_not_count(cgroup: Path) -> None:
    """Neither for the guest's deadline nor for the watcher, which is frozen as well."""
    freeze = cgroup / "cgroup.freeze"
    if not freeze.exists():
        pytest.skip("this kernel's cgroups cannot be frozen")
    process = subprocess.Popen(
        [sys.executable, "-c", _FROZEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    (cgroup / "cgroup.procs").write_text(str(process.pid))
    process.stdin.write(f"{CPU}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "runs\n"
    try:
        time.sleep(0.3)  # The guest loops.
        freeze.write_text("1")
        time.sleep(_FREEZE_S)
    finally:
        freeze.write_text("0")
    result, seconds = process.communicate()[0].split()
    assert result == "timeout"
    assert float(seconds) > _FREEZE_S + 0.9


def test_the_child_is_gone_with_its_process() -> None:
    code = (
        "import os; from kvmprobe.host.pin_watcher import PinWatcher\n"
        "with PinWatcher(): print(open('/proc/self/task/%d/children' % os.getpid()).read(), flush=True); input()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert wait_until(lambda: not os.path.exists(f"/proc/{child}"))
