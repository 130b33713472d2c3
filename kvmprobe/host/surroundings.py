"""Where the host runs: in a container, under Xen, on which machine, started by what."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.sysroot import Sysroot

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Surroundings

_IN_CGROUP = ("kubepods", "docker", "libpod", "lxc")
_BY_CGROUP = {"kubepods": "kubernetes", "libpod": "podman"}
_NO_CONTAINERS = ("wsl",)  # systemd calls it one; it is a virtual machine with a kernel of its own


def read_surroundings(root: Sysroot) -> Surroundings:
    """Return where the host runs, as far as its files show it."""
    dmi = "/sys/class/dmi/id"
    return {
        "container": _container(root),
        "hypervisor_type": root.read_value("/sys/hypervisor/type"),
        "xen_features": root.read_value("/sys/hypervisor/properties/features"),
        "vendor": root.read_value(f"{dmi}/sys_vendor"),
        "product": root.read_value(f"{dmi}/product_name"),
        "bootloader_type": root.read_value("/proc/sys/kernel/bootloader_type"),
    }


def _container(root: Sysroot) -> str | None:
    """The kind of container, by the files that its manager leaves (systemd.io/CONTAINER_INTERFACE); None for none."""
    if root.exists("/var/run/secrets/kubernetes.io"):
        return "kubernetes"
    by_systemd = (root.read_text_or_none("/run/systemd/container") or "").split("\n", 1)[0].strip()
    if by_systemd:
        return None if by_systemd in _NO_CONTAINERS else by_systemd[:40]
    if root.exists("/run/.containerenv"):
        return "podman"
    if root.exists("/.dockerenv"):
        return "docker"
    cgroups = root.read_text_or_none("/proc/1/cgroup") or ""
    outermost = min((name for name in _IN_CGROUP if name in cgroups), key=cgroups.index, default=None)
    return _BY_CGROUP.get(outermost, outermost) if outermost else None
