"""One cycle: create VMs, check every CPU, run the guest, close the VMs, check every CPU again.

It runs thousands of times, so it reads no more than it needs.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.soak import open_msrs
from kvmprobe.collect.soak.open_msrs import OpenMsrs
from kvmprobe.collect.soak.time_histogram import TimeHistogram
from kvmprobe.collect.vm_probe import memory_after
from kvmprobe.host import exit_times, guest, kvm, udev
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.cpu_lists import cpu_names, few_groups, group
from kvmprobe.model.own_errors import is_own_error, was_refused
from kvmprobe.model.values import HELD_ERRORS, failure

if TYPE_CHECKING:
    from typing import Callable

    from kvmprobe.collect.soak.nested_cycles import NestedCycles
    from kvmprobe.collect.soak.open_msrs import RawRegisters
    from kvmprobe.model.evidence import Answer, GuestRun, Snapshot, Uevent


class CycleFailed(Exception):
    """The kernel did not do what it promises: `what` in one line, and the `reason` of the verdict."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(what)
        self.what = what
        self.reason = reason


def reopen_and_read(msrs: OpenMsrs) -> RawRegisters:
    """Open the devices of the CPUs that are online now and return their registers. Raises CycleFailed."""
    try:
        msrs.open()
        return msrs.read()
    except OSError as error:
        raise CycleFailed(f"the registers can no longer be read: {error.strerror}", "msr-unreadable") from error


def check_registers(raw: RawRegisters, first: RawRegisters, when: str) -> None:
    """Check what must be so in every state of SVME. Raises CycleFailed.

    `first`: the registers that were read first. `when`: for people.
    """
    faults = group(open_msrs.register_faults(raw, first))
    if faults:
        what = "; ".join(f"{cpu_names(cpus)}: {text}" for text, cpus in few_groups(faults)[0])
        raise CycleFailed(f"{what} {when}", "register-corrupted")


def check_after(event: str, msrs: OpenMsrs, first: RawRegisters) -> None:
    """Check that each CPU has SVME and a page of its own after `event`, while a VM lives. Raises CycleFailed.

    `first`: the registers that were read first.
    """
    raw = reopen_and_read(msrs)
    clear = open_msrs.cpus_without_svme(raw)
    if clear:
        raise CycleFailed(f"{event} while a VM was alive: EFER.SVME is 0 on {cpu_names(clear)}", "svme-not-set")
    check_registers(raw, first, f"when {event} while a VM was alive")


def _reason(call: str | None, error: str | None, reason: str, available_kb: int | None = None) -> str:
    """The reason of a failure, where the error is not one of what this process may do or has."""
    return "kvm-not-permitted" if is_own_error(call, error, available_kb) else reason


class Cycle:
    """Runs cycles with `vms` VMs at once. `virt_at_load`: SVME stays 1 when the last VM is gone.

    After `run`: `raw` has the registers by phase, `guest_runs` the results of the guest, `created` the answer of
    KVM_CREATE_VM, `available_kb` the memory in KiB that was left where it answered ENOMEM. `nested`: runs a guest in
    each guest, too, where it is set. `busy_cpus`: where the guest could not run for real-time work; later cycles leave
    them out.
    `create_times`, `close_times` and, by CPU, `guest_times` collect the times of all cycles. Of these,
    `first_create_times` and `last_close_times` have those of the VMs with which KVM sets and clears SVME. `exit_times`:
    see time_exits().
    """

    def __init__(
        self,
        root: Sysroot,
        device: kvm.Kvm,
        msrs: OpenMsrs,
        udev: udev.Udev,
        virt_at_load: bool,
        vms: int,
        alarm: guest.GuestAlarm,
    ) -> None:
        self._root = root
        self.device = device
        self._msrs = msrs
        self._reads_registers = msrs.readable
        self._udev = udev
        self._virt_at_load = virt_at_load
        self._vm_count = vms
        self._alarm = alarm
        self._backwards = False
        self.create_times = TimeHistogram()
        self.close_times = TimeHistogram()
        self.first_create_times = TimeHistogram()
        self.last_close_times = TimeHistogram()
        self.guest_times: dict[int, TimeHistogram] = defaultdict(TimeHistogram)
        self.exit_times: dict[int, TimeHistogram] = defaultdict(TimeHistogram)
        self.raw: dict[str, RawRegisters] = {}
        self._first: RawRegisters = {}
        self._good: dict[str, RawRegisters] = {}  # By phase, the last registers that were in order: most cycles equal.
        self.guest_runs: list[GuestRun] = []
        self.nested: NestedCycles | None = None
        self.busy_cpus: set[int] = set()
        self.created: Answer = None
        self.available_kb: int | None = None
        self.while_vms_live: list[Callable[[], None]] = []

    def run(self) -> None:
        """Run one cycle, within `alarm`. Raises CycleFailed. All VMs are closed in any case.

        The steps of `while_vms_live` are called once while the VMs are open.
        """
        vms: list[kvm.Vm] = []
        self.raw = {}
        self.guest_runs = []
        if self.nested:
            self.nested.begin_cycle()
        self._udev.discard_uevents()
        self._read("before")
        try:
            for _ in range(self._vm_count):
                vms.append(self._create_vm(is_first=not vms))
            self._check_created()
            for vm in vms:
                self._run_guest(vm)
            if self.nested:
                self.nested.end_cycle()
            for step in self.while_vms_live:
                step()
            while len(vms) > 1:
                self._close_vm(vms.pop())
            if self._vm_count > 1:
                self._check_created()
        finally:
            while vms:
                self._close_vm(vms.pop(), is_last=not vms)
        self.check_released("closed")

    def reopen_device(self, path: str) -> None:
        """Open /dev/kvm again after kvm_amd was loaded again. Raises CycleFailed."""
        try:
            self.device = kvm.Kvm(path)
        except OSError as error:
            answer = failure(error)["error"]
            what = f"{path} cannot be opened again: {answer}"
            raise CycleFailed(what, _reason("open", answer, "kvm-device-missing")) from error

    def _create_vm(self, is_first: bool) -> kvm.Vm:
        started = time.perf_counter_ns()
        vm = self._open_vm()
        took = time.perf_counter_ns() - started
        self.create_times.add(took)
        if is_first:
            self.first_create_times.add(took)
        return vm

    def _open_vm(self) -> kvm.Vm:
        """KVM_CREATE_VM. Raises CycleFailed."""
        try:
            vm = self.device.create_vm()
        except OSError as error:
            self.created = answer = failure(error)
            self._read("created")
            has_other_owner = self.began_with_svme() and answer["error"] in HELD_ERRORS
            reason = "svm-held-by-another-owner" if has_other_owner else "create-vm-failed"
            self.available_kb = memory_after(self._root, error)
            reason = _reason("KVM_CREATE_VM", answer["error"], reason, self.available_kb)
            raise CycleFailed(f"KVM_CREATE_VM failed: {answer['error']}", reason) from error
        self.created = 0
        return vm

    def _close_vm(self, vm: kvm.Vm, is_last: bool = False) -> None:
        started = time.perf_counter_ns()
        vm.close()
        took = time.perf_counter_ns() - started
        self.close_times.add(took)
        if is_last:
            self.last_close_times.add(took)

    def _read(self, phase: str) -> RawRegisters:
        """The registers now, or {} where they could not be read from the beginning. Raises CycleFailed."""
        if not self._reads_registers:
            return {}
        try:
            raw = self.raw[phase] = self._msrs.read()
        except OSError:  # A CPU went offline.
            raw = self.raw[phase] = reopen_and_read(self._msrs)
        if not self._first:
            self._first = raw
        return raw

    def _check_created(self) -> None:
        raw = self._read("created")
        if raw == self._good.get("created"):
            return
        clear = open_msrs.cpus_without_svme(raw)
        if clear:
            raise CycleFailed(f"EFER.SVME is 0 on {cpu_names(clear)} while a VM lives", "svme-not-set")
        check_registers(raw, self._first, "while a VM lives")
        self._good["created"] = raw

    def check_released(self, phase: str) -> None:
        """Check the registers after the last VM. Raises CycleFailed.

        SVME is 0, or 1 where kvm_amd has set it when it was loaded.
        """
        raw = self._read(phase)
        if raw == self._good.get("closed"):
            return
        clear = open_msrs.cpus_without_svme(raw)
        if self._virt_at_load and clear:
            what = f"EFER.SVME is 0 on {cpu_names(clear)} although kvm.enable_virt_at_load=Y"
            raise CycleFailed(what, "svme-not-set")
        still_set = [cpu for cpu in raw if cpu not in clear]
        if not self._virt_at_load and still_set:
            what = f"EFER.SVME is 1 on {cpu_names(still_set)} although the last VM is gone"
            raise CycleFailed(what, "svme-not-cleared")
        check_registers(raw, self._first, "after the last VM")
        self._good["closed"] = raw

    def check_unloaded(self) -> None:
        """Check that SVME and VM_HSAVE_PA are 0 on every CPU while kvm_amd is unloaded. Raises CycleFailed."""
        raw = self._read("closed")
        clear = open_msrs.cpus_without_svme(raw)
        still_set = [cpu for cpu in raw if cpu not in clear]
        if still_set:
            what = f"EFER.SVME is 1 on {cpu_names(still_set)} although kvm_amd is unloaded"
            raise CycleFailed(what, "svme-not-cleared")
        check_registers(raw, self._first, "while kvm_amd is unloaded")

    def _run_guest(self, vm: kvm.Vm) -> None:
        cpus = sorted(os.sched_getaffinity(0) - self.busy_cpus, reverse=self._backwards)
        self._backwards = not self._backwards  # Each run begins on the CPU where the last one ended: one move less.
        self.guest_runs = guest.run_on_cpus(self.device, vm, cpus, cpus, self._alarm)
        self.busy_cpus.update(run["cpu"] for run in self.guest_runs if run["detail"] == guest.BUSY)
        for run in self.guest_runs:
            if "us" in run:
                self.guest_times[run["cpu"]].add(int(run["us"] * 1000))
        self._check_runs()
        if self.nested:
            self.nested.run(self.device, vm, self.guest_runs)

    def time_exits(self) -> None:
        """Measure what an exit of a guest costs on each CPU, in a VM of its own. Raises CycleFailed."""
        self.guest_runs = []
        self._udev.discard_uevents()
        with self._open_vm() as vm:
            self._check_created()  # Where SVME is 0, VMRUN raises #UD in the kernel.
            cpus = sorted(os.sched_getaffinity(0) - self.busy_cpus)
            self.guest_runs = exit_times.time_exits(
                self.device, vm, cpus, self._alarm, lambda cpu, took: self.exit_times[cpu].add(took)
            )
            self._check_runs()
        self.check_released("closed")

    def _check_runs(self) -> None:
        bad = [run for run in self.guest_runs if run["result"] not in ("ok", "skipped")]
        if bad:
            run = bad[0]
            detail = f"{run['result']}: {run['detail']} {run['error'] or ''}".strip()
            what = f"the guest did not run to its end on cpu{run['cpu']}: {detail}"
            raise CycleFailed(what, "kvm-not-permitted" if was_refused(run) else "guest-failed")

    def began_with_svme(self) -> bool:
        """Return whether SVME was 1 on some CPU when the cycle began, although KVM had no reason to have set it."""
        before = self.raw.get("before", {})
        return not self._virt_at_load and len(open_msrs.cpus_without_svme(before)) < len(before)

    def snapshots(self) -> list[Snapshot]:
        """Return the registers of this cycle as evidence."""
        return [open_msrs.to_snapshot(raw, phase) for phase, raw in self.raw.items()]

    def uevents(self) -> list[Uevent]:
        """Return KVM's uevents since this cycle began."""
        return self._udev.read_uevents(self._root, "closed")
