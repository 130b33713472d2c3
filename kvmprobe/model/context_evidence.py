"""The types of the evidence about the host around KVM, from which no verdict follows. Types only, as in evidence.py."""

from __future__ import annotations

from typing import TypedDict

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Reading


class Smt(TypedDict):
    """/sys/devices/system/cpu/smt."""

    control: Reading  # "on", "off", "forceoff", "notsupported", "notimplemented"
    active: Reading  # "0", "1"


class ClockSources(TypedDict):
    """/sys/devices/system/clocksource/clocksource0. The kernel's log has the frequency of the TSC."""

    current: Reading  # "tsc"
    available: Reading  # "tsc hpet acpi_pm": an unstable TSC is not in it


class HugePages(TypedDict):
    """The huge pages of one size."""

    total: int | None
    free: int | None


class HostIommu(TypedDict):
    tables: list[str] | None  # the firmware's tables about IOMMUs: "IVRS" (AMD), "DMAR" (Intel); None: unknown
    devices: list[str] | None  # /sys/class/iommu: "ivhd0"; None: unknown
    groups: int | None  # /sys/kernel/iommu_groups; None: unknown
    types: dict[str, int]  # how many of the first groups have which type: "DMA", "DMA-FQ", "identity", ...


class HostDevice(TypedDict):
    """A device node that VMMs open."""

    path: str
    registered: bool | None  # by a driver, which is in /sys/class/misc; None: unknown
    type: str | None  # "char", ...; None: the node is missing
    number: str | None  # "10:238"
    mode: str | None  # "0660"
    loadable: bool | None  # modules.devname has it, so that opening it loads the module; None: unknown, or not needed


class Cgroups(TypedDict):
    unified: Reading  # the controllers of cgroup v2: "cpuset cpu io memory"; None: it is not mounted
    mounted: list[str] | None  # the controllers of v1 that are mounted; None: unknown


class Context(TypedDict):
    vulnerabilities: dict[str, Reading] | None  # /sys/devices/system/cpu/vulnerabilities; None: unknown
    smt: Smt
    clock: ClockSources
    memory_kb: int | None  # MemTotal: what the kernel can use, less than what is installed
    huge_pages: dict[str, HugePages] | None  # by size: "2048kB"; None: unknown
    transparent_huge_pages: Reading  # "always [madvise] never"
    iommu: HostIommu
    devices: dict[str, HostDevice]  # "vhost-net", "vhost-vsock", "tun"
    cgroups: Cgroups
