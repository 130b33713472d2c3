"""The part of a probe that touches /dev/kvm.

It creates one VM and takes a snapshot of the registers just before and just after KVM_CREATE_VM.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Collection

from kvmprobe import TYPE_CHECKING
from kvmprobe.host import cpus, guest, kvm, kvm_cpuid, kvm_node, modules, msr, processes, udev
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.host.vm_resources import VmResources
from kvmprobe.model import kernel_steps
from kvmprobe.model.registers import EFER, svme
from kvmprobe.model.values import KVM_API_VERSION, failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import (
        Answer,
        Device,
        GuestRun,
        Ioctls,
        LeftBehind,
        LoadAttempt,
        MoreEvidence,
        Snapshot,
        Times,
        VmUser,
    )
    from kvmprobe.model.nested_evidence import Nested


_SETTLE_S = 0.02


class VmProbe:
    """Creates one VM, runs the guest in it and closes it. After `run` the attributes are the evidence.

    `guest_cpus`: the CPUs on which the guest is to run; None: those that need it, see cpus_to_leave_out(). `nested`:
    run the guest in the guest, too, where the guest ran to its end and kvm_amd is there.
    The other commands derive from it: they override `prepare`, `begin_phase`, `run` and `extra_evidence`.
    """

    def __init__(self, root: Sysroot, guest_cpus: Collection[int] | None = None, nested: bool = False) -> None:
        self.root = root
        self._guest_cpus = guest_cpus
        self.snapshots: list[Snapshot] = []
        self.guest: list[GuestRun] = []
        self.guest_left_out: dict[int, str] = {}
        self.nested: Nested | None = {"supported_cpuid": None, "runs": {}} if nested else None
        self.vm_users: list[VmUser] | None = None
        self.left_behind: LeftBehind | None = None
        self.times: Times | None = None
        self.available_kb: int | None = None  # of memory, where KVM_CREATE_VM answered ENOMEM
        self.loads: list[LoadAttempt] = []
        self.ioctls: Ioctls = {"KVM_GET_API_VERSION": None, "KVM_CREATE_VM": None, "KVM_CHECK_EXTENSION": {}}
        self.udev = udev.Udev(root)
        self.device: Device = kvm_node.read_node(root, self.udev.kvm_node())

    def prepare(self) -> None:
        """Called before CPUs and modules are read. `trace --reload` loads kvm_amd here."""

    def begin_phase(self, phase: str) -> None:
        """Called at the beginning of each phase of kernel_steps.PHASES."""

    def extra_evidence(self) -> MoreEvidence:
        """Return what this probe adds to the evidence of a check."""
        return {}

    def run(self, virt_at_load: bool) -> None:
        """Touch /dev/kvm. `virt_at_load`: kvm_amd sets EFER.SVME when it is loaded (see modules)."""
        self.udev.start_monitor()
        resources = VmResources(self.root)
        device = self._open_device()
        if device is None:
            self._take_snapshot("before")
            return
        with device:
            self._query(device)
            self._take_snapshot("before")
            with guest.GuestAlarm() as alarm:
                self._create_vm(device, alarm)
        self._take_snapshot("closed")
        self.left_behind = resources.left_behind(self.udev.own_pids)
        self._find_other_vms(virt_at_load)

    def _open_device(self) -> kvm.Kvm | None:
        if self.device["registered"] is False:
            return None  # Opening a node without a driver would make the kernel load kvm.ko.
        if not self.root.is_real and not self.root.exists("/dev"):
            return None  # A folder without /dev is no running machine: whether /dev/kvm opens there is unknown.
        try:
            device = kvm.Kvm(self.device["path"], self.root)
        except OSError as error:
            self.device["opened"] = failure(error)
            return None
        self.device["opened"] = True
        return device

    def _take_snapshot(self, phase: str) -> None:
        self.snapshots.append(msr.take_snapshot(self.root, cpus.online_cpus(self.root), phase))
        self.udev.collect_uevents(self.root, phase)

    def _query(self, device: kvm.Kvm) -> None:
        """Ask KVM for its API version, for every capability in kvm.EXTENSIONS, and for the CPUID that it can offer."""
        try:
            self.ioctls["KVM_GET_API_VERSION"] = device.api_version()
        except OSError as error:
            self.ioctls["KVM_GET_API_VERSION"] = failure(error)
        for name in kvm.EXTENSIONS:
            answer: Answer
            try:
                answer = device.check_extension(name)
            except OSError as error:
                answer = failure(error)
            self.ioctls["KVM_CHECK_EXTENSION"][name] = answer
        if self.ioctls["KVM_GET_API_VERSION"] == KVM_API_VERSION:
            self.ioctls["KVM_GET_SUPPORTED_CPUID"] = kvm_cpuid.read_leaves(device)

    def _create_vm(self, device: kvm.Kvm, alarm: guest.GuestAlarm) -> None:
        if self.ioctls["KVM_GET_API_VERSION"] != KVM_API_VERSION:
            return  # Another API than that of linux/kvm.h: the other requests may mean anything.
        self.begin_phase(kernel_steps.CREATE)
        started = time.perf_counter_ns()
        try:
            vm = device.create_vm()
            create_ns = time.perf_counter_ns() - started
        except OSError as error:
            self.begin_phase("alive")
            self.ioctls["KVM_CREATE_VM"] = failure(error)
            self.available_kb = memory_after(self.root, error)
            self._take_snapshot("created")
        else:
            with vm:
                self.begin_phase("alive")
                self.ioctls["KVM_CREATE_VM"] = 0
                self._take_snapshot("created")
                before, created = self.snapshots[-2:]
                isolated = cpus.isolated_cpus(self.root)
                self.guest_left_out = cpus_to_leave_out(self._guest_cpus, isolated, before, created)
                run_on = [int(cpu) for cpu in created["cpus"] if int(cpu) not in self.guest_left_out]
                self.guest = guest.run_on_cpus(device, vm, run_on, cpus_for_guest(created), alarm)
                if self.nested is not None and modules.is_present(self.root, "kvm_amd"):
                    self.nested = run_nested(device, vm, self.guest, alarm)
                self.begin_phase(kernel_steps.CLOSE)
                started = time.perf_counter_ns()
                vm.close()
                close_ns = time.perf_counter_ns() - started
            self.times = {"create": round(create_ns / 1000, 1), "close": round(close_ns / 1000, 1)}
            self.begin_phase("after")

    def _find_other_vms(self, virt_at_load: bool) -> None:
        """Look for the VMs of other processes where registers or uevents indicate that there may be some.

        To look into every process costs time, which most hosts need not spend.
        """
        # Where kvm_amd has set SVME when it was loaded, SVME = 1 indicates no VM.
        set_by_others = not (virt_at_load and self.ioctls["KVM_CREATE_VM"] == 0) and any(
            svme(registers[EFER.name])
            for snapshot in self.snapshots
            if snapshot["phase"] != "created"
            for registers in snapshot["cpus"].values()
        )
        uevents = self.udev.evidence()["events"]
        if set_by_others or any(not event["ours"] or (event["count"] or 0) > 1 for event in uevents):
            time.sleep(_SETTLE_S)  # KVM sends the uevent of a VM after it has set SVME for it.
            self.udev.collect_uevents(self.root, "closed")
            self.vm_users = processes.vm_users(self.root, self.udev.own_pids)


def memory_after(root: Sysroot, error: OSError) -> int | None:
    """Return how much memory was available when a call answered ENOMEM, in KiB; None: unknown, or another error."""
    if error.errno != errno.ENOMEM:
        return None
    from kvmprobe.host.available_memory import available_kb

    return available_kb(root)


class PassiveProbe(VmProbe):
    """Reads only: it neither opens /dev/kvm nor creates a VM."""

    def run(self, virt_at_load: bool) -> None:
        """Take one snapshot and look for the VMs of other processes."""
        self.udev.start_monitor()
        self._take_snapshot("before")
        self._find_other_vms(virt_at_load)

    def extra_evidence(self) -> MoreEvidence:
        """Return that the probe was passive."""
        return {"passive": True}


def run_nested(device: kvm.Kvm, vm: kvm.Vm, runs: list[GuestRun], alarm: guest.GuestAlarm) -> Nested:
    """Run the guest in the guest on each CPU of `runs`, the guest's own, where these ended well."""
    from kvmprobe.host import nested_guest  # few probes ask for it

    good = {run["cpu"] for run in runs if run["result"] == "ok"}
    return nested_guest.run_on_cpus(device, vm, [run["cpu"] for run in runs], good, alarm)


def cpus_for_guest(created: Snapshot) -> set[int]:
    """Return the CPUs on which the guest may run, by the snapshot taken while the VM lives.

    Those whose EFER.SVME is 1. Where EFER is unknown on every CPU, KVM may have a backend without SVM: all. Where it
    is unknown on some CPUs only, these are left out: VMRUN would raise #UD in the kernel where SVME is 0.
    """
    values = _svme_by_cpu(created)
    if all(value is None for value in values.values()):
        return set(values)
    return {cpu for cpu, value in values.items() if value}


def cpus_to_leave_out(
    asked: Collection[int] | None, isolated: Collection[int], before: Snapshot, created: Snapshot
) -> dict[int, str]:
    """Return the CPUs on which the guest is not to run, and why, by the snapshots before and after KVM_CREATE_VM.

    `asked`: the CPUs of --cpus, None without it. `isolated`: those that belong to somebody's real-time work. The guest
    would disturb it, and where EFER.SVME went from 0 to 1 the registers show without a guest that KVM set it.
    """
    if asked is not None:
        return {int(cpu): "not in --cpus" for cpu in created["cpus"] if int(cpu) not in asked}
    was, now = _svme_by_cpu(before), _svme_by_cpu(created)
    return {cpu: "isolated" for cpu in sorted(isolated) if was.get(cpu) is False and now.get(cpu) is True}


def _svme_by_cpu(snapshot: Snapshot) -> dict[int, bool | None]:
    return {int(cpu): svme(registers[EFER.name]) for cpu, registers in snapshot["cpus"].items()}
