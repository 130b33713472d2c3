"""The cgroup controllers of a host, and those that libvirt uses."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.values import is_failure

if TYPE_CHECKING:
    from kvmprobe.model.context_evidence import Cgroups

V1, V2 = "v1", "v2"
# What libvirt asks of cgroups; in v2 io replaces blkio, cpu includes cpuacct, and devices are a matter of BPF.
OF_LIBVIRT: dict[str, tuple[str, ...]] = {
    V1: ("cpu", "cpuacct", "cpuset", "memory", "devices", "blkio"),
    V2: ("cpu", "cpuset", "memory", "io"),
}
_IN_V1 = {"cpu": ("cpu", "cpuacct"), "cpuset": ("cpuset",), "memory": ("memory",), "io": ("blkio",)}  # by those of v2


def controllers(cgroups: Cgroups) -> tuple[str, list[str]] | None:
    """The version of cgroups (V1 or V2) and its controllers; None: unknown.

    By cgroup.controllers (v2) or /proc/cgroups (v1). A host may have both: v1 counts where v2 has no controller.
    """
    unified, mounted = cgroups["unified"], cgroups["mounted"]
    if isinstance(unified, str) and (unified or not mounted):
        return V2, unified.split()
    if mounted is None or (is_failure(unified) and not mounted):
        return None
    return V1, mounted


def used_by_libvirt(version: str, names: list[str]) -> set[str]:
    """Those of the controllers `names` that libvirt uses in both versions, by their names in v1."""
    if version == V2:
        return {in_v1 for name in names for in_v1 in _IN_V1.get(name, ())}
    return {in_v1 for of_one in _IN_V1.values() for in_v1 in of_one} & set(names)
