"""What decides about SEV, SEV-ES and SEV-SNP besides what every check reads. Nothing here changes the host."""

from __future__ import annotations

import re

from kvmprobe import TYPE_CHECKING
from kvmprobe.host import msr
from kvmprobe.host.module_files import read_configuration
from kvmprobe.host.sev_device import read_device
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.registers import SEV_REGISTERS, SYSCFG, has_bit
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvmprobe.model.evidence import Failure, Leaf, Log, Module, Reading
    from kvmprobe.model.sev_evidence import Iommu, Sev

_CLASSES = "/sys/class"
_IOMMUS = f"{_CLASSES}/iommu"
_GROUPS = "/sys/kernel/iommu_groups"
_MOST_GROUPS = 4096  # machines have some hundred

# What ccp logs of SNP_INIT: __sev_snp_init_locked(), and sev_pci_init() before 6.15, in drivers/crypto/ccp/sev-dev.c.
_SNP_INIT = re.compile(r"^ccp .*(?P<good>SEV-SNP API:)|^ccp .*SEV-SNP: .*(?:failed|Shutdown|SHUTDOWN)")


def read_sev_registers(root: Sysroot, cpuid: Mapping[str, Mapping[str, Leaf]]) -> dict[str, dict[str, Reading]]:
    """Return the registers of memory encryption by CPU, hexadecimal or {"error": errno name}.

    Only those that CPUID shows a CPU to have are read. `cpuid`: the leaves of each CPU by its number.
    """
    found = {}
    for cpu, leaves in cpuid.items():
        registers = [register for register, bits in SEV_REGISTERS if any(has_bit(leaves, bit) for bit in bits)]
        found[cpu] = msr.read_registers(root, int(cpu), registers) if registers else {}
    return found


def read_sev(
    root: Sysroot, registers: dict[str, dict[str, Reading]], modules: Mapping[str, Module] | None, log: Log
) -> Sev:
    """Return the evidence about SEV. `registers`: of read_sev_registers(), from while the module msr was loaded."""
    return {
        "present": root.read_text_or_none("/sys/devices/system/cpu/present"),
        "registers": registers,
        "iommu": _iommu(root),
        "device": read_device(root, is_snp_initialized(registers, modules, log)),
        "misc_capacity": root.read_value("/sys/fs/cgroup/misc.capacity"),
        "modprobe_lines": read_configuration(root),
    }


def is_snp_initialized(
    registers: Mapping[str, Mapping[str, Reading]], modules: Mapping[str, Module] | None, log: Log
) -> bool:
    """Return whether everything shows that the firmware has run SNP_INIT, so that asking for its state changes nothing.

    SYSCFG.SNP_EN is 1 on every CPU, kvm_amd uses SNP, and the kernel's last line about SNP_INIT is of its success.
    """
    enabled = [SYSCFG.bit_of(values.get(SYSCFG.name), "SNP_EN") for values in registers.values()]
    kvm_amd = (modules or {}).get("kvm_amd")
    used = kvm_amd is not None and kvm_amd["parameters"].get("sev_snp") in ("Y", "1")
    lines = [found for line in log["lines"] if (found := _SNP_INIT.match(line["text"]))]
    return bool(enabled) and all(enabled) and used and bool(lines) and lines[-1]["good"] is not None


def _iommu(root: Sysroot) -> Iommu:
    """The IOMMUs of AMD and their features (drivers/iommu/amd/init.c), and the default domains of their groups."""
    known = root.exists(_CLASSES)  # A kernel without IOMMUs does not have _IOMMUS.
    names = [name for name in root.list_folder(_IOMMUS) if name.startswith("ivhd")]
    return {
        "features": {name: root.read_value(f"{_IOMMUS}/{name}/amd-iommu/features") for name in names}
        if known
        else None,
        "domains": _domains(root),
    }


def _domains(root: Sysroot) -> dict[str, int] | Failure:
    """How many groups have which type of default domain (drivers/iommu/iommu.c: iommu_group_show_type())."""
    counts: dict[str, int] = {}
    for group in root.list_folder(_GROUPS)[:_MOST_GROUPS]:
        try:
            kind = root.read_text(f"{_GROUPS}/{group}/type")
        except OSError as error:
            return failure(error)
        counts[kind] = counts.get(kind, 0) + 1
    return counts
