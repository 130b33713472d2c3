"""Children that have a VM are killed at random moments. SVME must then be as after any other last VM.

The kernel's selftest hardware_disable_test (tools/testing/selftests/kvm) kills children in the same way and checks
that the machine survives. Here the registers are checked, too.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import time

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.soak import open_msrs
from kvmprobe.collect.soak.cycle import Cycle, CycleFailed
from kvmprobe.collect.soak.open_msrs import OpenMsrs
from kvmprobe.host import guest, kvm
from kvmprobe.model.signals import ENDING_SIGNALS

if TYPE_CHECKING:
    from typing import Callable

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LONGEST_LIFE_S = 0.03  # Longer than the creation of a VM takes.
_SETTLE_S = 5.0  # A VM is gone with its last reference, which may be a moment after the end of its process.
_PAUSE_S = 0.005


def kill_child_with_vm(path: str, msrs: OpenMsrs, cycle: Cycle, on_start: Callable[[int], None]) -> None:
    """Start a child that creates a VM at `path` and runs the guest in it over and over; kill it with SIGKILL.

    `on_start` is called with the PID of the child. Raises CycleFailed where SVME is not as it must be afterwards.
    """
    parent = os.getpid()
    # A signal that ends kvmprobe between fork() and `try` would leave the child alive.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    pid = os.fork()
    if pid == 0:
        try:
            _run_child(path, msrs, parent)
        finally:
            os._exit(0)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        on_start(pid)
        time.sleep(random.uniform(0, _LONGEST_LIFE_S))  # noqa: S311  (nothing secret)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    ends = time.monotonic() + _SETTLE_S
    while True:
        try:
            return cycle.check_released("closed")
        except CycleFailed as failed:
            if time.monotonic() >= ends:
                raise CycleFailed(f"after its process was killed: {failed.what}", failed.reason) from failed
            time.sleep(_PAUSE_S)


def _run_child(path: str, msrs: OpenMsrs, parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        return  # The parent was killed before prctl().
    cpus = sorted(os.sched_getaffinity(0))
    with guest.GuestAlarm() as alarm, kvm.Kvm(path) as device, device.create_vm() as vm:
        # Where SVME is 0, VMRUN raises #UD in the kernel.
        while not (msrs.readable and open_msrs.cpus_without_svme(msrs.read())):
            guest.run_on_cpus(device, vm, cpus, cpus, alarm)
