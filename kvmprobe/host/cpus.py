"""The CPUs of this host: which are online, and their identity by CPUID and /proc/cpuinfo."""

from __future__ import annotations

import os

from kvmprobe import TYPE_CHECKING
from kvmprobe.host import cpuid, msr
from kvmprobe.host.sysroot import Sysroot, close_fd
from kvmprobe.model.cpu_lists import format_cpulist, parse_cpulist
from kvmprobe.model.registers import (
    CLOCK_FLAGS,
    CPUID_HYPERVISOR,
    CPUID_SEV,
    CPUINFO_FLAGS,
    CPUINFO_SVM_FLAGS,
    SEV_STATUS,
    has_bit,
)
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import CpuInfo, Cpus, Failure


_MOST_CPUS = 1 << 16  # as in the kernel's lists

# The fields of /proc/cpuinfo that identify a CPU, and their names in evidence.
_CPUINFO_FIELDS = {
    "vendor_id": "vendor_id",
    "cpu family": "cpu_family",
    "model": "model",
    "model name": "model_name",
    "stepping": "stepping",
    "microcode": "microcode",
}


def online_cpus(root: Sysroot) -> list[int]:
    """Return the numbers of the CPUs that some source shows to be online, ascending; [] where none does.

    The sources are the kernel's list, the devices in /dev/cpu and the CPUs that this process may use. In a container
    lxcfs renumbers the CPUs in /proc and /sys, so the other two may show more. Whether these are all CPUs is known only
    where listed_cpus() is.
    """
    return _online(root)[0]


def online_text(root: Sysroot) -> str | None:
    """Return the online CPUs for evidence, in the kernel's format; None where it is unknown whether there are more."""
    return _online(root)[1]


def _online(root: Sysroot) -> tuple[list[int], str | None]:
    """The CPUs of online_cpus(), and the text of online_text()."""
    listed = listed_cpus(root)
    found = set(listed or ())
    if root.is_real:
        found |= os.sched_getaffinity(0)
    names = (name for name in root.list_folder("/dev/cpu") if name.isascii() and name.isdigit() and len(name) < 6)
    found.update(cpu for cpu in map(int, names) if cpu < _MOST_CPUS and cpu not in found and _has_device(root, cpu))
    return sorted(found), None if listed is None else format_cpulist(found)


def listed_cpus(root: Sysroot) -> list[int] | None:
    """Return the numbers of the online CPUs as the kernel lists them, ascending; None where no list can be read.

    Sources, in this order: /sys/devices/system/cpu/online, /proc/cpuinfo.
    """
    try:
        cpus = parse_cpulist(root.read_text("/sys/devices/system/cpu/online"))
    except (OSError, ValueError):
        cpus = []
    if not cpus:
        info = read_cpuinfo(root)
        cpus = sorted(int(cpu) for cpu in info) if "error" not in info else []
    return cpus or None


def isolated_cpus(root: Sysroot) -> set[int]:
    """Return the CPUs that the kernel keeps free for somebody's work: isolcpus= and nohz_full=. Unknown ones are none.

    Sources: isolated and nohz_full in /sys/devices/system/cpu (drivers/base/cpu.c). Older kernels show "(null)" where
    nohz_full= was not given.
    """
    found: set[int] = set()
    for name in ("isolated", "nohz_full"):
        try:
            found.update(parse_cpulist(root.read_text_or_none(f"/sys/devices/system/cpu/{name}")))
        except ValueError:
            pass
    return found


def _has_device(root: Sysroot, cpu: int) -> bool:
    """Whether a device of the CPU can be opened. A static /dev also has devices of CPUs that are offline."""
    for path in (msr.device_path(cpu), cpuid.device_path(cpu)):
        try:
            close_fd(root.open(path))
            return True
        except OSError:
            pass
    return False


def read_cpus(root: Sysroot) -> Cpus:
    """Return the evidence about the online CPUs. `online_at_end` is None: the caller fills it in at the end."""
    online, text = _online(root)
    leaves = {str(cpu): cpuid.read_leaves(root, cpu) for cpu in online}
    # MSR_AMD64_SEV exists only where CPUID has SEV. In a guest it shows whether the memory of the guest itself is
    # encrypted (sme_enable() in arch/x86/boot/startup/sme.c).
    first = leaves[str(online[0])] if online else {}
    maybe_sev_guest = has_bit(first, CPUID_SEV) and has_bit(first, CPUID_HYPERVISOR)
    sev_status = msr.read_registers(root, online[0], (SEV_STATUS,))[SEV_STATUS.name] if maybe_sev_guest else None
    return {
        "online": text,
        "offline": root.read_text_or_none("/sys/devices/system/cpu/offline"),
        "online_at_end": None,
        "cpuid": leaves,
        "cpuinfo": read_cpuinfo(root),
        "sev_status": sev_status,
    }


def read_cpuinfo(root: Sysroot) -> dict[str, CpuInfo] | Failure:
    """Return /proc/cpuinfo by CPU number, or {"error": errno name}.

    Of each CPU it keeps the fields that identify it and those flags that are in registers.CPUINFO_FLAGS, CLOCK_FLAGS or
    CPUINFO_SVM_FLAGS.
    """
    try:
        text = root.read_text("/proc/cpuinfo")
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
        flags = fields["flags"].split() if "flags" in fields else None
        info["flags"] = None if flags is None else sorted(CPUINFO_FLAGS.intersection(flags))
        info["clock_flags"] = None if flags is None else sorted(CLOCK_FLAGS.intersection(flags))
        info["svm_flags"] = None if flags is None else sorted(CPUINFO_SVM_FLAGS.intersection(flags))
        infos[str(int(number))] = info  # type: ignore[assignment]
    return infos
