"""Children that have a VM are killed at random moments: SVME must be gone then, or held, as the kernel promises.

The kernel's own selftest hardware_disable_test (tools/testing/selftests/kvm) does the same and looks whether the
machine survives; here the registers are read too.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import time

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.soak import open_msrs
from kvmprobe.collect.soak.cycle import Cycle, Failed
from kvmprobe.collect.soak.open_msrs import Registers
from kvmprobe.host import guest, kvm

if TYPE_CHECKING:
    from typing import Callable

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LONGEST_S = 0.03  # longer than a VM's creation takes
_SETTLE_S = 5.0  # a VM goes with its last reference, which may be a moment after its process
_PAUSE_S = 0.005


def run(path: str, read: Registers, cycle: Cycle, born: Callable[[int], None]) -> None:
    """One child that creates a VM at `path` and runs the guest in it over and over; its end is a SIGKILL.

    `born` is told its PID. Raises Failed.
    """
    parent = os.getpid()
    held = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # else one might come when there is a child, but no `try`
    pid = os.fork()
    if pid == 0:
        try:
            _child(path, read, parent)
        finally:
            os._exit(0)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        born(pid)
        time.sleep(random.uniform(0, _LONGEST_S))  # noqa: S311  (nothing secret)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    ends = time.monotonic() + _SETTLE_S
    while True:
        try:
            return cycle.check_released("closed")
        except Failed as failed:
            if time.monotonic() >= ends:
                raise Failed(f"after its process was killed: {failed.what}", failed.reason) from failed
            time.sleep(_PAUSE_S)


def _child(path: str, read: Registers, parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        return  # it was killed before
    cpus = sorted(os.sched_getaffinity(0))
    with kvm.Kvm(path) as device, device.create_vm() as vm:
        # Where SVME is not set, the guest would be the kernel's end.
        while not (read.readable and open_msrs.clear(read.read())):
            guest.run_on(device, vm, cpus, cpus)
