"""The host around KVM: vulnerabilities, SMT, clock, memory, IOMMU, devices of VMMs, cgroups. Every user may read it.

Sources: Documentation/ABI/testing/sysfs-devices-system-cpu, sysfs-kernel-mm-hugepages, sysfs-kernel-iommu_groups,
sysfs-class-iommu, Documentation/admin-guide/cgroup-v2.rst, cgroups(7), depmod(8).
"""

from __future__ import annotations

import os
import stat

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.available_memory import meminfo
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.values import as_count

if TYPE_CHECKING:
    from kvmprobe.model.context_evidence import Cgroups, Context, HostDevice, HostIommu, HugePages
    from kvmprobe.model.evidence import Reading

_CPU = "/sys/devices/system/cpu"
_CLOCK = "/sys/devices/system/clocksource/clocksource0"
_MM = "/sys/kernel/mm"
_TABLES = ("IVRS", "DMAR")
_MOST_GROUPS = 64  # whose types are read: a server may have hundreds, and each costs a file
_MOST_FILES = 100  # in a folder where the kernel has some twenty
_LONGEST = 80  # characters of a name

# The nodes that VMMs open besides /dev/kvm, and their names in /sys/class/misc.
_DEVICES = {"vhost-net": "/dev/vhost-net", "vhost-vsock": "/dev/vhost-vsock", "tun": "/dev/net/tun"}


def read_context(root: Sysroot, release: str) -> Context:
    """Return what the files of the host show. `release`: of the running kernel."""
    return {
        "vulnerabilities": _vulnerabilities(root),
        "smt": {"control": root.read_value(f"{_CPU}/smt/control"), "active": root.read_value(f"{_CPU}/smt/active")},
        "clock": {
            "current": root.read_value(f"{_CLOCK}/current_clocksource"),
            "available": root.read_value(f"{_CLOCK}/available_clocksource"),
        },
        "memory_kb": meminfo(root).get("MemTotal"),
        "huge_pages": _huge_pages(root),
        "transparent_huge_pages": root.read_value(f"{_MM}/transparent_hugepage/enabled"),
        "iommu": _iommu(root),
        "devices": _devices(root, release),
        "cgroups": _cgroups(root),
    }


def _vulnerabilities(root: Sysroot) -> dict[str, Reading] | None:
    names = _names(root, f"{_CPU}/vulnerabilities")
    return {name: root.read_value(f"{_CPU}/vulnerabilities/{name}") for name in names} or None


def _huge_pages(root: Sysroot) -> dict[str, HugePages] | None:
    """By size. A kernel without huge pages has no such folder in /sys/kernel/mm."""
    if not root.list_folder(_MM):
        return None
    found: dict[str, HugePages] = {}
    for name in _names(root, f"{_MM}/hugepages"):
        folder = f"{_MM}/hugepages/{name}"
        total, free = (root.read_text_or_none(f"{folder}/{one}_hugepages") or "" for one in ("nr", "free"))
        found[name.replace("hugepages-", "")] = {"total": as_count(total), "free": as_count(free)}
    return found


def _names(root: Sysroot, folder: str) -> list[str]:
    """The names in a folder that the kernel could have made, at most _MOST_FILES. Another root may have any names."""
    names = [name for name in root.list_folder(folder) if len(name) <= _LONGEST and name.isascii()]
    return [name for name in names if name.replace("_", "").replace("-", "").isalnum()][:_MOST_FILES]


def _iommu(root: Sysroot) -> HostIommu:
    """Containers hide /sys/firmware: without any table in it, its tables are unknown."""
    tables = root.list_folder("/sys/firmware/acpi/tables")
    is_readable = bool(root.list_folder("/sys/kernel"))
    groups = root.list_folder("/sys/kernel/iommu_groups")
    types: dict[str, int] = {}
    for group in groups[:_MOST_GROUPS]:
        name = root.read_text_or_none(f"/sys/kernel/iommu_groups/{group}/type") or "unknown"
        name = name[:_LONGEST]
        types[name] = types.get(name, 0) + 1
    return {
        "tables": [name for name in _TABLES if name in tables] if tables else None,
        "devices": _names(root, "/sys/class/iommu") if root.list_folder("/sys/class") else None,
        "groups": len(groups) if is_readable else None,
        "types": types,
    }


def _devices(root: Sysroot, release: str) -> dict[str, HostDevice]:
    registered = root.list_folder("/sys/class/misc")
    devices = {name: _node(root, path) for name, path in _DEVICES.items()}
    loadable: str | None = None
    for name, device in devices.items():
        device["registered"] = name in registered if registered else None
        if device["registered"] is False and device["type"] is not None:
            if loadable is None:
                loadable = root.read_text_or_none(f"/lib/modules/{release}/modules.devname") or ""
            node = device["path"].removeprefix("/dev/")
            device["loadable"] = f" {node} " in loadable if loadable else None
    return devices


def _node(root: Sysroot, path: str) -> HostDevice:
    device: HostDevice = {
        "path": path,
        "registered": None,
        "type": None,
        "number": None,
        "mode": None,
        "loadable": None,
    }
    try:
        status = root.stat(path)
    except (OSError, ValueError):
        return device
    is_device = stat.S_ISCHR(status.st_mode)
    device["type"] = "char" if is_device else "other"
    device["number"] = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}" if is_device else None
    device["mode"] = f"{stat.S_IMODE(status.st_mode):04o}"
    return device


def _cgroups(root: Sysroot) -> Cgroups:
    """Of v1 the controllers that are enabled and in a hierarchy, which then has a number (/proc/cgroups)."""
    text = root.read_text_or_none("/proc/cgroups")
    rows = [line.split() for line in (text or "").split("\n") if not line.startswith("#")]
    mounted = [row[0] for row in rows if len(row) == 4 and row[1] != "0" and row[3] == "1"]
    return {
        "unified": root.read_value("/sys/fs/cgroup/cgroup.controllers"),
        "mounted": None if text is None else mounted[:_MOST_FILES],
    }
