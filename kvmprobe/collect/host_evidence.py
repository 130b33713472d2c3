"""Takes evidence on this host: every step's result, whatever the others gave. Decides nothing.

The order is that of the kernel's own steps. What touches /dev/kvm is a Probe.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.vm_probe import Probe
from kvmprobe.host import cpuid, cpus, kernel_log, modprobe, modules, msr
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model import times
from kvmprobe.model.cpu_lists import format_cpulist

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Evidence, Host, Kernel


class Options:
    """What the user allows: `load` msr and cpuid for the time of the probe, `load_kvm`: kvm_amd, to stay."""

    def __init__(self, load: bool = True, load_kvm: bool = False, sysroot: str = "/") -> None:
        self.load = load
        self.load_kvm = load_kvm
        self.sysroot = sysroot


def observe(options: Options, make: Callable[[Sysroot], Probe] = Probe) -> Evidence:
    """Takes evidence with the probe that `make` gives: the usual one creates and destroys one VM where it can."""
    started = time.monotonic()
    taken_at = times.format_time()
    root = Sysroot(options.sysroot)
    online = cpus.online(root)
    loads = modprobe.load(root, "kvm_amd") if options.load_kvm and not modules.is_present(root, "kvm_amd") else []
    may_load = options.load and root.is_real and os.geteuid() == 0
    with modprobe.TemporarilyLoaded(root, _devices(online[0]) if root.is_real else {}, may_load) as borrowed:
        probe = make(root)
        probe.prepare()
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
        "loads": [*loads, *borrowed.attempts, *probe.loads],
        "cpus": cpu_evidence,
        "snapshots": probe.snapshots,
        "device": probe.device,
        "ioctls": probe.ioctls,
        "guest": probe.guest,
        "uevents": probe.udev.evidence(),
        "vm_users": probe.vm_users,
        "log": kernel_log.observe(root),
        **probe.more(),
    }


def _devices(cpu: int) -> dict[str, str]:
    """The modules that evidence is read through, and a device of each."""
    return {"msr": msr.device(cpu), "cpuid": cpuid.device(cpu)}


def _host(root: Sysroot) -> Host:
    return {
        "name": _uname(root, "hostname", os.uname().nodename),
        "machine": os.uname().machine,
        "euid": os.geteuid(),
        "sysroot": None if root.is_real else root.path(""),
    }


def _kernel(root: Sysroot) -> Kernel:
    lockdown = root.reading("/sys/kernel/security/lockdown")
    if isinstance(lockdown, str):  # "none [integrity] confidentiality"
        lockdown = lockdown.partition("[")[2].partition("]")[0] or lockdown
    return {
        "release": _uname(root, "osrelease", os.uname().release),
        "version": _uname(root, "version", os.uname().version),
        "lockdown": lockdown,
    }


def _uname(root: Sysroot, name: str, here: str) -> str:
    """What uname says, of the machine that the root is of."""
    return here if root.is_real else root.text_or_none(f"/proc/sys/kernel/{name}") or "unknown"
