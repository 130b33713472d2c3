"""Children that have a VM are killed at random moments. SVME must then be as after any other last VM.

The kernel's selftest hardware_disable_test (tools/testing/selftests/kvm) kills children in the same way and checks
that the machine survives. Here the registers are checked, too.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import select
import signal
import time

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.soak import open_msrs
from kvmprobe.collect.soak.cycle import Cycle, CycleFailed
from kvmprobe.collect.soak.open_msrs import OpenMsrs
from kvmprobe.host import guest, kvm
from kvmprobe.host.sysroot import close_fd
from kvmprobe.model.signals import ENDING_SIGNALS
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from typing import Callable

    from kvmprobe.model.command_evidence import Kills

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_FIRST_LIFE_S = 60.0  # The first VM of a child ends within this time, or the child is killed while it lives.
_SETTLE_S = 5.0  # A VM is gone with its last reference, which may be a moment after the end of its process.
_PAUSE_S = 0.005

# What the child was doing with its VM, in the byte that it shares with kvmprobe: the index of a name.
_STAGES = ("missed", "creating", "alive", "closing")
_NO_VM, _CREATING, _ALIVE, _CLOSING = range(len(_STAGES))


class ChildKiller:
    """Kills children that have a VM, and counts in `kills` in which stage of the VM's life each was hit.

    `path`: of /dev/kvm. `on_start`: called with the PID of each child.
    """

    def __init__(self, path: str, msrs: OpenMsrs, cycle: Cycle, on_start: Callable[[int], None]) -> None:
        self._path = path
        self._msrs = msrs
        self._cycle = cycle
        self._on_start = on_start
        self.kills: Kills = {"missed": 0, "creating": 0, "alive": 0, "closing": 0}

    def hits(self) -> int:
        """Return how many kills hit a VM."""
        return self.kills["creating"] + self.kills["alive"] + self.kills["closing"]

    def kill(self) -> None:
        """Start a child and kill it with SIGKILL. Raises CycleFailed where SVME is not as it must be afterwards.

        The child creates a VM, runs the guest on each CPU and closes the VM, over and over. It measures how long its
        first VM lives; the moment of the kill is drawn over this time, from the creation of its second VM on.
        """
        with mmap.mmap(-1, mmap.PAGESIZE) as stage:
            self._start_and_kill(stage)
            self.kills[_STAGES[stage[0]]] += 1  # type: ignore[literal-required]
        ends = time.monotonic() + _SETTLE_S
        while True:
            try:
                return self._cycle.check_released("closed")
            except CycleFailed as failed:
                if time.monotonic() >= ends:
                    raise CycleFailed(f"after its process was killed: {failed.what}", failed.reason) from failed
                time.sleep(_PAUSE_S)

    def _start_and_kill(self, stage: mmap.mmap) -> None:
        # A signal that ends kvmprobe between fork() and `try` would leave the child alive.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
        try:
            pid, lives = self._start(stage)
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            what = f"no child process can be started: {failure(error)['error']}"
            raise CycleFailed(what, "kvm-not-permitted") from error
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self._on_start(pid)
            time.sleep(random.uniform(0, _read_life(lives)))  # noqa: S311  (nothing secret)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            close_fd(lives)

    def _start(self, stage: mmap.mmap) -> tuple[int, int]:
        """Return the PID of a new child, and the descriptor from which _read_life() reads. Raises OSError."""
        parent = os.getpid()
        lives, sends_life = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            close_fd(lives)
            raise
        finally:
            if os.getpid() == parent:
                close_fd(sends_life)
        if pid == 0:
            try:
                self._live(stage, sends_life, parent)
            finally:
                os._exit(0)
        return pid, lives

    def _live(self, stage: mmap.mmap, sends_life: int, parent: int) -> None:
        """In the child."""
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            return  # The parent was killed before prctl().
        with guest.GuestAlarm() as alarm, kvm.Kvm(self._path) as device:
            started = time.monotonic_ns()
            self._live_once(device, alarm, stage)
            os.write(sends_life, str(time.monotonic_ns() - started).encode())
            while True:
                self._live_once(device, alarm, stage)

    def _live_once(self, device: kvm.Kvm, alarm: guest.GuestAlarm, stage: mmap.mmap) -> None:
        cpus = sorted(os.sched_getaffinity(0))
        stage[0] = _CREATING
        try:
            with device.create_vm() as vm:
                stage[0] = _ALIVE
                # Where SVME is 0, VMRUN raises #UD in the kernel.
                if not (self._msrs.readable and open_msrs.cpus_without_svme(self._msrs.read())):
                    guest.run_on_cpus(device, vm, cpus, cpus, alarm)
                stage[0] = _CLOSING
        finally:
            stage[0] = _NO_VM


def _read_life(lives: int) -> float:
    """The seconds that the first VM of the child lived; 0 where it ended before, or did not end in _FIRST_LIFE_S."""
    if not select.select([lives], [], [], _FIRST_LIFE_S)[0]:
        return 0.0
    return int(os.read(lives, 32) or b"0") / 1e9
