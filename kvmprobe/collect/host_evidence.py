"""Takes evidence on this host. Each step records its result, whatever the other steps gave; nothing is decided.

The order is that of the kernel's own steps. What touches /dev/kvm is a VmProbe.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.cause_evidence import take_cause_evidence
from kvmprobe.collect.vm_probe import VmProbe
from kvmprobe.host import cpuid, cpus, kernel_log, modules, msr
from kvmprobe.host.host_context import read_context
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.host.temporary_modules import TemporaryModules
from kvmprobe.model import times

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Cpus, Evidence, HostInfo, KernelInfo, LoadAttempt, Reading


class CollectOptions:
    """What the user allows.

    `load`: load msr and cpuid for the time of the probe. `load_kvm`: load kvm_amd where it is missing, and leave it
    loaded. `sysroot`: read /proc, /sys and /dev below this folder. `sev`: also take what decides about SEV.
    """

    def __init__(self, load: bool = True, load_kvm: bool = False, sysroot: str = "/", sev: bool = False) -> None:
        self.load = load
        self.load_kvm = load_kvm
        self.sysroot = sysroot
        self.sev = sev


def take_evidence(options: CollectOptions, make_probe: Callable[[Sysroot], VmProbe] = VmProbe) -> Evidence:
    """Take evidence with the probe that `make_probe` returns, and return it.

    Raises Problem where the probe does (`trace`, `watch`).
    """
    started = time.monotonic()
    taken_at = times.format_time()
    root = Sysroot(options.sysroot)
    load_kvm_amd = options.load_kvm and not modules.is_present(root, "kvm_amd")
    with kernel_log.LinesDuring(root if load_kvm_amd else None) as during:
        loads = _load_kvm_amd(root) if load_kvm_amd else []
    may_load = options.load and root.is_real and os.geteuid() == 0
    with TemporaryModules(
        root, _register_devices(cpus.online_cpus(root)[0]) if root.is_real else {}, may_load
    ) as temporary:
        probe = make_probe(root)
        probe.prepare()
        cpu_evidence = cpus.read_cpus(root)
        module_evidence = modules.read_modules(root)
        probe.run(modules.enables_virt_at_load(root))
        cpu_evidence["online_at_end"] = cpus.online_text(root)  # While the devices of the CPUs are still there.
        sev_registers = _read_sev_registers(root, cpu_evidence) if options.sev else {}
    kernel = _kernel(root)
    evidence: Evidence = {
        "taken_at": taken_at,
        "duration_ms": round((time.monotonic() - started) * 1000, 1),
        "host": _host(root),
        "kernel": kernel,
        "modules": module_evidence,
        "loads": [*loads, *temporary.attempts, *probe.loads],
        "cpus": cpu_evidence,
        "snapshots": probe.snapshots,
        "device": probe.device,
        "ioctls": probe.ioctls,
        "guest": probe.guest,
        "guest_left_out": {str(cpu): why for cpu, why in probe.guest_left_out.items()},
        "uevents": probe.udev.evidence(),
        "vm_users": probe.vm_users,
        "log": kernel_log.read_log(root, during),
        "context": read_context(root, kernel["release"]),
        **take_cause_evidence(root, kernel["release"], module_evidence, probe.device),
        **probe.extra_evidence(),
    }
    if options.sev:
        from kvmprobe.host.sev_surroundings import read_sev

        evidence["sev"] = read_sev(root, sev_registers, module_evidence, evidence["log"])
        evidence["duration_ms"] = round((time.monotonic() - started) * 1000, 1)
    if probe.left_behind is not None:
        evidence["left_behind"] = probe.left_behind
    if probe.available_kb is not None:
        evidence["available_kb"] = probe.available_kb
    if probe.times is not None:
        evidence["times"] = probe.times
    if probe.nested is not None:
        evidence["nested"] = probe.nested
    return evidence


def _read_sev_registers(root: Sysroot, cpu_evidence: Cpus) -> dict[str, dict[str, Reading]]:
    from kvmprobe.host.sev_surroundings import read_sev_registers

    return read_sev_registers(root, cpu_evidence["cpuid"])


def _load_kvm_amd(root: Sysroot) -> list[LoadAttempt]:
    from kvmprobe.host.modprobe import load_modules

    return load_modules(root, "kvm_amd")


def _register_devices(cpu: int) -> dict[str, str]:
    """The modules through which registers are read, and the device that each has for a CPU."""
    return {"msr": msr.device_path(cpu), "cpuid": cpuid.device_path(cpu)}


def _host(root: Sysroot) -> HostInfo:
    return {
        "name": _uname(root, "hostname", os.uname().nodename),
        "machine": os.uname().machine,
        "euid": os.geteuid(),
        "sysroot": None if root.is_real else root.path(""),
    }


def _kernel(root: Sysroot) -> KernelInfo:
    lockdown = root.read_value("/sys/kernel/security/lockdown")
    if isinstance(lockdown, str):  # "none [integrity] confidentiality"
        lockdown = lockdown.partition("[")[2].partition("]")[0] or lockdown
    return {
        "release": _uname(root, "osrelease", os.uname().release),
        "version": _uname(root, "version", os.uname().version),
        "lockdown": lockdown,
    }


def _uname(root: Sysroot, name: str, here: str) -> str:
    """A field of uname: `here` on this machine, below another root what /proc/sys/kernel of that root shows."""
    return here if root.is_real else root.read_text_or_none(f"/proc/sys/kernel/{name}") or "unknown"
