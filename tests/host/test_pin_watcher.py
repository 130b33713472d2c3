"""A process that pins itself, and the child that frees it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

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
