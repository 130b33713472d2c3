"""How much memory the kernel could still give to this process, for an ENOMEM that has to be explained."""

from __future__ import annotations

from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.values import as_count

_CGROUPS = "/sys/fs/cgroup"
_INITIAL = "cgroup:[4026531835]"  # PROC_CGROUP_INIT_INO of include/linux/proc_ns.h, on every machine
_UNLIMITED = "max"


def available_kb(root: Sysroot) -> int | None:
    """Return how many KiB are available: of the machine, or of the memory cgroup where that has fewer.

    None where it is unknown: without /proc/meminfo, with version 1 of cgroups, and in a cgroup namespace, where the
    limits of the groups above cannot be seen. Sources: Documentation/filesystems/proc.rst (MemAvailable),
    Documentation/admin-guide/cgroup-v2.rst (memory.max, memory.current).
    """
    machine = meminfo(root).get("MemAvailable")
    groups = _groups(root)
    if machine is None or groups is None:
        return None
    rooms = [machine]
    for group in groups:
        limit = root.read_text_or_none(f"{group}/memory.max")
        if limit is None or limit.strip() == _UNLIMITED:
            continue  # This group has no limit, or not the controller.
        most, used = (
            as_count(limit.strip()),
            as_count((root.read_text_or_none(f"{group}/memory.current") or "").strip()),
        )
        if most is None or used is None:
            return None
        rooms.append(max(0, most - used) // 1024)
    return min(rooms)


def meminfo(root: Sysroot) -> dict[str, int]:
    """Return /proc/meminfo in KiB by name (meminfo_proc_show() in fs/proc/meminfo.c)."""
    found = {}
    for line in (root.read_text_or_none("/proc/meminfo") or "").split("\n"):
        name, _, rest = line.partition(":")
        number = as_count(rest.replace("kB", "").strip())
        if number is not None:
            found[name] = number
    return found


def _groups(root: Sysroot) -> list[str] | None:
    """The folders of this process's memory cgroup and of those above it; None where they are unknown."""
    lines = (root.read_text_or_none("/proc/self/cgroup") or "").split("\n")
    fields = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    path = next((field[2] for field in fields if "memory" in field[1].split(",")), None)
    if path is None:
        path = next((field[2] for field in fields if field[0] == "0"), None)
        is_mounted = root.exists(f"{_CGROUPS}/cgroup.controllers")
    else:
        is_mounted = False  # version 1
    if path is None or not _sees_all_groups(root):
        return None
    names = [name for name in path.split("/") if name]
    if not names:
        return []  # the group of the machine, which has no limit
    return [f"{_CGROUPS}/{'/'.join(names[:end])}" for end in range(1, len(names) + 1)] if is_mounted else None


def _sees_all_groups(root: Sysroot) -> bool:
    """Whether this process is in the initial cgroup namespace."""
    try:
        return root.read_link("/proc/self/ns/cgroup") == _INITIAL
    except OSError:
        return False
