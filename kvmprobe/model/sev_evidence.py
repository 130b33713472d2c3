"""The types of the evidence about SEV, SEV-ES and SEV-SNP, which `check --sev` adds. The same as a JSON Schema:
report.schema.json. Types only, imported where TYPE_CHECKING.
"""

from __future__ import annotations

from typing import TypedDict

from kvmprobe.model.evidence import ConfigurationLine, Failure, Reading


class SevStatus(TypedDict):
    """The answer of SEV_PLATFORM_STATUS, or of SNP_PLATFORM_STATUS (include/uapi/linux/psp-sev.h)."""

    api: str  # "1.55": version of the firmware's interface
    build: int
    state: int  # 0 uninitialized, 1 initialized, 2 with guests (SEV alone)
    guests: int


class SevFailure(Failure, total=False):
    """In place of an answer. `error` is ETIMEDOUT where there was none in time."""

    firmware_error: str  # the firmware's own error code, hexadecimal; missing where it gave none


class SevDevice(TypedDict):
    """/dev/sev, which the module ccp registers where the PSP answers."""

    registered: bool | None  # /sys/class/misc/sev exists; None: /sys/class/misc could not be listed
    opened: bool | Failure | None  # None: not tried
    platform: SevStatus | SevFailure | None  # SEV_PLATFORM_STATUS; None: not asked
    snp_platform: SevStatus | SevFailure | None  # SNP_PLATFORM_STATUS; asked only where SNP is initialized


class Iommu(TypedDict):
    """What /sys shows of the IOMMUs."""

    features: (
        dict[str, Reading] | None
    )  # None: /sys/class is missing; by device ("ivhd0"): "features", the extended feature register in hexadecimal
    domains: dict[str, int] | Failure  # how many groups have a default domain of each type ("DMA-FQ", "identity")


class Sev(TypedDict):
    """What decides about SEV, SEV-ES and SEV-SNP, besides what every check reads."""

    present: str | None  # /sys/devices/system/cpu/present
    registers: dict[str, dict[str, Reading]]  # by CPU, only those that CPUID shows it to have
    iommu: Iommu
    device: SevDevice
    misc_capacity: Reading  # misc.capacity of the root cgroup: "sev 410\nsev_es 99"; None: it does not exist
    modprobe_lines: list[ConfigurationLine] | Failure  # of modprobe's configuration, about KVM's modules and ccp
