"""One cycle: create VMs, check every CPU, run the guest, close them, check again. Lean, for it is done often."""

from __future__ import annotations

import os
import time

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.soak import open_msrs
from kvmprobe.collect.soak.histogram import Times
from kvmprobe.collect.soak.open_msrs import Registers
from kvmprobe.host import guest, kvm, udev
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.cpu_lists import cpu_names
from kvmprobe.model.values import HELD_ERRORS, failure

if TYPE_CHECKING:
    from typing import Callable

    from kvmprobe.collect.soak.open_msrs import Raw
    from kvmprobe.model.evidence import Answer, GuestRun, Snapshot, Uevent


class Failed(Exception):
    """The kernel did not do what it says: `what`, in one line, and the verdict's `reason` for it."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(what)
        self.what = what
        self.reason = reason


def reopened(read: Registers) -> Raw:
    """The registers of the CPUs that are online now. Raises Failed."""
    try:
        read.open()
        return read.read()
    except OSError as error:
        raise Failed(f"the registers can no longer be read: {error.strerror}", "msr-unreadable") from error


class Cycle:
    """`at_load`: SVME stays 1 when the last VM is gone. `vms` are alive at once.

    After `run` the attributes say what was seen; `create` and `close` collect the times of all cycles.
    """

    def __init__(
        self, root: Sysroot, device: kvm.Kvm, read: Registers, udev: udev.Udev, at_load: bool, vms: int
    ) -> None:
        self._root = root
        self.device = device
        self._registers = read
        self._watches = read.readable
        self._udev = udev
        self._at_load = at_load
        self._count = vms
        self._backwards = False
        self.create_times = Times()
        self.close_times = Times()
        self.raw: dict[str, Raw] = {}
        self.runs: list[GuestRun] = []
        self.created: Answer = None
        self.during: Callable[[], None] | None = None  # called while the VMs are there

    def run(self) -> None:
        """Within a guest.Alarm. Raises Failed. No VM of ours is left in any case."""
        vms: list[kvm.Vm] = []
        self.raw = {}
        self.runs = []
        self._udev.forget()
        self._look("before")
        try:
            for _ in range(self._count):
                vms.append(self._create())
            self._check_created()
            for vm in vms:
                self._run_guest(vm)
            if self.during:
                self.during()
            while len(vms) > 1:
                self._close(vms.pop())
            if self._count > 1:
                self._check_created()
        finally:
            while vms:
                self._close(vms.pop())
        self.check_released("closed")

    def open(self, path: str) -> None:
        """/dev/kvm anew, after kvm_amd was loaded again. Raises Failed."""
        try:
            self.device = kvm.Kvm(path)
        except OSError as error:
            raise Failed(f"{path} cannot be opened again: {failure(error)['error']}", "kvm-device-missing") from error

    def _create(self) -> kvm.Vm:
        started = time.perf_counter_ns()
        try:
            vm = self.device.create_vm()
        except OSError as error:
            self.created = answer = failure(error)
            self._look("created")
            by_another = self.began_held() and answer["error"] in HELD_ERRORS
            reason = "svm-held-by-another-owner" if by_another else "create-vm-failed"
            raise Failed(f"KVM_CREATE_VM failed: {answer['error']}", reason) from error
        self.create_times.add(time.perf_counter_ns() - started)
        self.created = 0
        return vm

    def _close(self, vm: kvm.Vm) -> None:
        started = time.perf_counter_ns()
        vm.close()
        self.close_times.add(time.perf_counter_ns() - started)

    def _look(self, phase: str) -> Raw:
        """Nothing where there was nothing to be read from the beginning on. Raises Failed where that changed."""
        if not self._watches:
            return {}
        try:
            raw = self.raw[phase] = self._registers.read()
        except OSError:  # a CPU went offline
            raw = self.raw[phase] = reopened(self._registers)
        return raw

    def _check_created(self) -> None:
        clear = open_msrs.clear(self._look("created"))
        if clear:
            raise Failed(f"EFER.SVME is 0 on {cpu_names(clear)} although a VM is there", "svme-not-set")

    def check_released(self, phase: str) -> None:
        """After the last VM: SVME is 0 again, or still 1 where kvm_amd holds it from its loading on."""
        raw = self._look(phase)
        clear = open_msrs.clear(raw)
        if self._at_load and clear:
            raise Failed(f"EFER.SVME is 0 on {cpu_names(clear)} although kvm.enable_virt_at_load=Y", "svme-not-set")
        still = [cpu for cpu in raw if cpu not in clear]
        if not self._at_load and still:
            raise Failed(f"EFER.SVME is 1 on {cpu_names(still)} although the last VM is gone", "svme-not-cleared")

    def check_unloaded(self) -> None:
        """While kvm_amd is not there, nobody has a reason to hold SVM."""
        raw = self._look("closed")
        still = [cpu for cpu in raw if cpu not in open_msrs.clear(raw)]
        if still:
            raise Failed(f"EFER.SVME is 1 on {cpu_names(still)} although kvm_amd is unloaded", "svme-not-cleared")

    def _run_guest(self, vm: kvm.Vm) -> None:
        cpus = sorted(os.sched_getaffinity(0), reverse=self._backwards)
        self._backwards = not self._backwards  # there and back: each begins on the CPU where the last one ended
        self.runs = guest.run_on(self.device, vm, cpus, cpus)
        bad = [run for run in self.runs if run["result"] not in ("ok", "skipped")]
        if bad:
            run = bad[0]
            detail = f"{run['result']}: {run['detail']} {run['error'] or ''}".strip()
            raise Failed(f"the guest did not run to its end on cpu{run['cpu']}: {detail}", "guest-failed")

    def began_held(self) -> bool:
        """Whether SVME was set when the cycle began, although no VM of ours was there and KVM holds it for none."""
        before = self.raw.get("before", {})
        return not self._at_load and len(open_msrs.clear(before)) < len(before)

    def snapshots(self) -> list[Snapshot]:
        return [open_msrs.snapshot(raw, phase) for phase, raw in self.raw.items()]

    def events(self) -> list[Uevent]:
        """KVM's uevents since the cycle began."""
        return self._udev.take(self._root, "closed")
