"""The part of a probe that touches /dev/kvm: one VM, with the two snapshots as close to KVM_CREATE_VM as can be."""

from __future__ import annotations

import time
from collections.abc import Collection

from kvmprobe import TYPE_CHECKING
from kvmprobe.host import cpus, guest, kvm, msr, processes, udev
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model import kernel_steps
from kvmprobe.model.registers import EFER
from kvmprobe.model.values import KVM_API_VERSION, as_int, failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import (
        Answer,
        Device,
        GuestRun,
        Ioctls,
        LoadAttempt,
        MoreEvidence,
        Reading,
        Snapshot,
        VmUser,
    )


_SETTLE_S = 0.02


class Probe:
    """kvmprobe's own VM. Other commands let other witnesses see more of it: they override `prepare` and the rest."""

    def __init__(self, root: Sysroot) -> None:
        self.root = root
        self.snapshots: list[Snapshot] = []
        self.guest: list[GuestRun] = []
        self.vm_users: list[VmUser] | None = None
        self.loads: list[LoadAttempt] = []
        self.ioctls: Ioctls = {"KVM_GET_API_VERSION": None, "KVM_CREATE_VM": None, "KVM_CHECK_EXTENSION": {}}
        self.udev = udev.Udev(root)
        self.device: Device = udev.observe(root, self.udev.node())

    def prepare(self) -> None:
        """Before the modules are looked at."""

    def phase(self, name: str) -> None:
        """What comes next is `name`, of kernel_steps.PHASES."""

    def more(self) -> MoreEvidence:
        """What this probe alone adds to the evidence."""
        return {}

    def run(self, at_load: bool) -> None:
        self.udev.listen()
        device = self._open()
        if device is None:
            self._snapshot("before")
            return
        with device:
            self._ask(device)
            self._snapshot("before")
            self._create_vm(device)
        self._snapshot("closed")
        self._look_for_others(at_load)

    def _open(self) -> kvm.Kvm | None:
        if self.device["registered"] is False:
            return None  # opening a node without its driver would make the kernel load kvm.ko
        try:
            device = kvm.Kvm(self.root.path(self.device["path"]))
        except OSError as error:
            self.device["opened"] = failure(error)
            return None
        self.device["opened"] = True
        return device

    def _snapshot(self, phase: str) -> None:
        self.snapshots.append(msr.snapshot(self.root, cpus.online(self.root), phase))
        self.udev.drain(self.root, phase)

    def _ask(self, device: kvm.Kvm) -> None:
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

    def _create_vm(self, device: kvm.Kvm) -> None:
        if self.ioctls["KVM_GET_API_VERSION"] != KVM_API_VERSION:
            return  # whatever answers there, it is not the API of linux/kvm.h
        self.phase(kernel_steps.CREATE)
        try:
            vm = device.create_vm()
        except OSError as error:
            self.phase("alive")
            self.ioctls["KVM_CREATE_VM"] = failure(error)
            self._snapshot("created")
        else:
            with vm, guest.Alarm():
                self.phase("alive")
                self.ioctls["KVM_CREATE_VM"] = 0
                self._snapshot("created")
                created = self.snapshots[-1]
                self.guest = guest.run_on(device, vm, [int(cpu) for cpu in created["cpus"]], _may_run(created))
                self.phase(kernel_steps.CLOSE)
            self.phase("after")

    def _look_for_others(self, at_load: bool) -> None:
        """Searches for other processes' VMs where registers or uevents leave a question open.

        Looking into every process costs time that the usual host need not spend.
        """
        # Where KVM holds SVM from kvm_amd's loading on, SVME says nothing about VMs.
        set_elsewhere = not (at_load and self.ioctls["KVM_CREATE_VM"] == 0) and any(
            svme(registers["EFER"])
            for snapshot in self.snapshots
            if snapshot["phase"] != "created"
            for registers in snapshot["cpus"].values()
        )
        events = self.udev.evidence()["events"]
        if set_elsewhere or any(not event["ours"] or (event["count"] or 0) > 1 for event in events):
            time.sleep(_SETTLE_S)  # KVM sends the uevent of a VM after it has set SVME for it
            self.udev.drain(self.root, "closed")
            self.vm_users = processes.vm_users(self.root, self.udev.ours)


class PassiveProbe(Probe):
    """Only looks: /dev/kvm is not opened and no VM is made."""

    def run(self, at_load: bool) -> None:
        self.udev.listen()
        self._snapshot("before")
        self._look_for_others(at_load)

    def more(self) -> MoreEvidence:
        return {"passive": True}


def svme(reading: Reading) -> bool | None:
    """EFER.SVME in what was read of EFER; None where that is unknown."""
    value = as_int(reading)
    return None if value is None else EFER.bit(value, "SVME")


def _may_run(created: Snapshot) -> Collection[int]:
    """CPUs on which VMRUN is known to be legal; all of them where no EFER can be read at all."""
    values = {int(cpu): svme(registers["EFER"]) for cpu, registers in created["cpus"].items()}
    if all(value is None for value in values.values()):
        return set(values)
    return {cpu for cpu, value in values.items() if value}
