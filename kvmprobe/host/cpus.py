"""Which CPUs there are and what the kernel and they themselves say about them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from kvmprobe import TYPE_CHECKING
from kvmprobe.host import cpuid, msr
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.cpu_lists import format_cpulist, parse_cpulist
from kvmprobe.model.registers import CPUID_HYPERVISOR, CPUID_SEV, CPUINFO_FLAGS, SEV_STATUS, has_bit
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import CpuInfo, Cpus, Failure


_CPUINFO_FIELDS = {
    "vendor_id": "vendor_id",
    "cpu family": "cpu_family",
    "model": "model",
    "model name": "model_name",
    "stepping": "stepping",
    "microcode": "microcode",
}


def online(root: Sysroot) -> list[int]:
    """The online CPUs by /sys/devices/system/cpu/online, else by /proc/cpuinfo, else as sysconf counts them."""
    try:
        cpus = parse_cpulist(root.text("/sys/devices/system/cpu/online"))
    except (OSError, ValueError):
        cpus = []
    if not cpus:
        info = cpuinfo(root)
        cpus = sorted(int(cpu) for cpu in info) if "error" not in info else []
    return cpus or list(range(os.cpu_count() or 1))


def observe(root: Sysroot, cpus: Sequence[int]) -> Cpus:
    """The evidence about `cpus`, which are online; `online_at_end` is for later."""
    leaves = {str(cpu): cpuid.read(root, cpu) for cpu in cpus}
    first = leaves[str(cpus[0])]
    # MSR_AMD64_SEV exists only where CPUID has SEV; in a guest it tells whether the guest's own memory is encrypted
    # (sme_enable() in arch/x86/boot/startup/sme.c).
    maybe_sev_guest = has_bit(first, CPUID_SEV) and has_bit(first, CPUID_HYPERVISOR)
    return {
        "online": format_cpulist(cpus),
        "offline": root.text_or_none("/sys/devices/system/cpu/offline"),
        "online_at_end": None,
        "cpuid": leaves,
        "cpuinfo": cpuinfo(root),
        "sev_status": msr.read(root, cpus[0], (SEV_STATUS,))["SEV_STATUS"] if maybe_sev_guest else None,
    }


def cpuinfo(root: Sysroot) -> dict[str, CpuInfo] | Failure:
    """/proc/cpuinfo by CPU number, reduced to what identifies a CPU and to the flags in CPUINFO_FLAGS."""
    try:
        text = root.text("/proc/cpuinfo")
    except OSError as error:
        return failure(error)
    infos: dict[str, CpuInfo] = {}
    for block in text.split("\n\n"):
        fields = {}
        for line in block.splitlines():
            name, _, value = line.partition(":")
            fields[name.strip()] = value.strip()
        number = fields.get("processor", "")
        if not (number.isascii() and number.isdigit()):
            continue
        info: dict[str, object] = {ours: fields.get(theirs) for theirs, ours in _CPUINFO_FIELDS.items()}
        flags = fields.get("flags")
        info["flags"] = None if flags is None else sorted(CPUINFO_FLAGS.intersection(flags.split()))
        infos[str(int(number))] = info  # type: ignore[assignment]
    return infos
