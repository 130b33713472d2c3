"""Takes evidence on this host: every step's result, whatever the others gave. Decides nothing.

The order is that of the kernel's own steps; the two snapshots around KVM_CREATE_VM are as close to it as can be.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection

from kvmprobe import TYPE_CHECKING, cpuid, cpus, devices, guest, klog, kvm, modprobe, modules, msr, processes
from kvmprobe.evidence import KVM_API_VERSION, as_int, failure, format_cpulist
from kvmprobe.files import Root
from kvmprobe.registers import EFER

if TYPE_CHECKING:
    from kvmprobe.shape import Answer, Device, Evidence, GuestRun, Host, Ioctls, Kernel, Reading, Snapshot, VmUser


_SETTLE_S = 0.02


class Options:
    """What the user allows: `load` msr and cpuid for the time of the probe, `load_kvm`: kvm_amd, to stay."""

    def __init__(self, load: bool = True, load_kvm: bool = False, sysroot: str = "/") -> None:
        self.load = load
        self.load_kvm = load_kvm
        self.sysroot = sysroot


def observe(options: Options) -> Evidence:
    """One probe. Creates and destroys one VM where /dev/kvm lets it."""
    started = time.monotonic()
    taken_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    root = Root(options.sysroot)
    online = cpus.online(root)
    loads = modprobe.load(root, "kvm_amd") if options.load_kvm and not modules.is_present(root, "kvm_amd") else []
    with modprobe.Borrowed(root, lambda: _missing(root, online[0]) if options.load else []) as borrowed:
        probe = _Probe(root)
        cpu_evidence = cpus.observe(root, online)
        module_evidence = modules.observe(root)
        probe.run(modules.enables_at_load(root))
    cpu_evidence["online_at_end"] = format_cpulist(cpus.online(root))
    return {
        "taken_at": taken_at,
        "duration_ms": round((time.monotonic() - started) * 1000, 1),
        "host": _host(root),
        "kernel": _kernel(root),
        "modules": module_evidence,
        "loads": [*loads, *borrowed.attempts],
        "cpus": cpu_evidence,
        "snapshots": probe.snapshots,
        "device": probe.device,
        "ioctls": probe.ioctls,
        "guest": probe.guest,
        "uevents": probe.udev.evidence(),
        "vm_users": probe.vm_users,
        "log": klog.observe(root),
    }


def _missing(root: Root, cpu: int) -> list[str]:
    """The modules whose devices are not there."""
    if not root.is_real or os.geteuid() != 0:
        return []
    return [module.__name__.rpartition(".")[2] for module in (msr, cpuid) if not root.exists(module.device(cpu))]


def _host(root: Root) -> Host:
    return {
        "name": _uname(root, "hostname", os.uname().nodename),
        "machine": os.uname().machine,
        "euid": os.geteuid(),
        "sysroot": None if root.is_real else root.path(""),
    }


def _kernel(root: Root) -> Kernel:
    lockdown = root.reading("/sys/kernel/security/lockdown")
    if isinstance(lockdown, str):  # "none [integrity] confidentiality"
        lockdown = lockdown.partition("[")[2].partition("]")[0] or lockdown
    return {
        "release": _uname(root, "osrelease", os.uname().release),
        "version": _uname(root, "version", os.uname().version),
        "lockdown": lockdown,
    }


def _uname(root: Root, name: str, here: str) -> str:
    """What uname says, of the machine that the root is of."""
    return here if root.is_real else root.text_or_none(f"/proc/sys/kernel/{name}") or "unknown"


class _Probe:
    """The part that touches /dev/kvm."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self.snapshots: list[Snapshot] = []
        self.guest: list[GuestRun] = []
        self.vm_users: list[VmUser] | None = None
        self.ioctls: Ioctls = {"KVM_GET_API_VERSION": None, "KVM_CREATE_VM": None, "KVM_CHECK_EXTENSION": {}}
        self.udev = devices.Udev(root)
        self.device: Device = devices.observe(root, self.udev.node())

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
        try:
            vm = device.create_vm()
        except OSError as error:
            self.ioctls["KVM_CREATE_VM"] = failure(error)
            self._snapshot("created")
        else:
            with vm:
                self.ioctls["KVM_CREATE_VM"] = 0
                self._snapshot("created")
                created = self.snapshots[-1]
                self.guest = guest.run_on(device, vm, [int(cpu) for cpu in created["cpus"]], _may_run(created))

    def _look_for_others(self, at_load: bool) -> None:
        """Searches for other processes' VMs where registers or uevents leave a question open.

        Looking into every process costs time that the usual host need not spend.
        """
        # Where KVM holds SVM from kvm_amd's loading on, SVME says nothing about VMs.
        set_elsewhere = not (at_load and self.ioctls["KVM_CREATE_VM"] == 0) and any(
            _svme(registers["EFER"])
            for snapshot in self.snapshots
            if snapshot["phase"] != "created"
            for registers in snapshot["cpus"].values()
        )
        events = self.udev.evidence()["events"]
        if set_elsewhere or any(not event["ours"] or (event["count"] or 0) > 1 for event in events):
            time.sleep(_SETTLE_S)  # KVM sends the uevent of a VM after it has set SVME for it
            self.udev.drain(self.root, "closed")
            self.vm_users = processes.vm_users(self.root)


def _svme(reading: Reading) -> bool | None:
    value = as_int(reading)
    return None if value is None else EFER.bit(value, "SVME")


def _may_run(created: Snapshot) -> Collection[int]:
    """CPUs on which VMRUN is known to be legal; all of them where no EFER can be read at all."""
    svme = {int(cpu): _svme(registers["EFER"]) for cpu, registers in created["cpus"].items()}
    if all(value is None for value in svme.values()):
        return set(svme)
    return {cpu for cpu, value in svme.items() if value}
