"""What --sev reads: registers that CPUID shows to exist, IOMMUs, and when the firmware may be asked about SNP."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.host.sev_device import read_device
from kvmprobe.host.sev_surroundings import is_snp_initialized, read_sev, read_sev_registers
from kvmprobe.host.sysroot import Sysroot
from tests.helpers.sev_hosts import log

_HIGHEST = ["0x80000028", "0x0", "0x0", "0x0"]
_NUMBERS = {"SYSCFG": 0xC0010010, "HWCR": 0xC0010015, "RMP_BASE": 0xC0010132, "RMP_END": 0xC0010133}
_API = "ccp 0000:42:00.1: SEV-SNP API:1.55 build:31"


def _leaves(eax: int) -> dict[str, Any]:
    return {"0x80000000": _HIGHEST, "0x8000001f": [hex(eax), "0x0", "0x0", "0x0"]}


@pytest.mark.parametrize(
    ("eax", "names"),
    [
        (0, ()),
        (1 << 0, ("SYSCFG", "HWCR")),
        (1 << 1, ("SYSCFG", "HWCR")),
        (0x1F, ("SYSCFG", "HWCR", "RMP_BASE", "RMP_END")),
        (0x1F | 1 << 23, ("SYSCFG", "HWCR", "RMP_BASE", "RMP_END", "RMP_CFG")),
    ],
)
def test_only_registers_that_cpuid_shows_are_read(tmp_path: Path, eax: int, names: tuple[str, ...]) -> None:
    (tmp_path / "dev/cpu/0").mkdir(parents=True)
    with open(tmp_path / "dev/cpu/0/msr", "wb") as file:  # below another root a register is at number * size
        for name, number in _NUMBERS.items():
            file.seek(number * 8)
            file.write(struct.pack("<Q", len(name)))
        file.truncate(0xC0010200 * 8)
    found = read_sev_registers(Sysroot(str(tmp_path)), {"0": _leaves(eax)})
    assert tuple(found["0"]) == names
    assert all(found["0"][name] == hex(len(name)) for name in names if name in _NUMBERS)


def test_unknown_cpuid_reads_no_register(tmp_path: Path) -> None:
    leaves: Any = {"0x80000000": {"error": "EPERM"}, "0x8000001f": {"error": "EPERM"}}
    assert read_sev_registers(Sysroot(str(tmp_path)), {"0": leaves}) == {"0": {}}


def test_iommu_capacity_and_configuration_below_another_root(tmp_path: Path) -> None:
    files = {
        "sys/class/iommu/ivhd0/amd-iommu/features": "a5bf732fa2295afe:1d\n",
        "sys/class/iommu/dmar0/intel-iommu/cap": "1\n",
        "sys/kernel/iommu_groups/0/type": "DMA-FQ\n",
        "sys/kernel/iommu_groups/1/type": "identity\n",
        "sys/kernel/iommu_groups/2/type": "DMA-FQ\n",
        "sys/fs/cgroup/misc.capacity": "sev 410\nsev_es 99\n",
        "sys/devices/system/cpu/present": "0-3\n",
        "sys/class/misc/sev/dev": "10:124\n",
        "etc/modprobe.d/kvm.conf": "# mine\noptions kvm_amd sev=0\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = read_sev(Sysroot(str(tmp_path)), {}, None, log())  # type: ignore[arg-type]
    assert found["iommu"] == {"features": {"ivhd0": "a5bf732fa2295afe:1d"}, "domains": {"DMA-FQ": 2, "identity": 1}}
    assert (found["present"], found["misc_capacity"]) == ("0-3", "sev 410\nsev_es 99")
    line = {"file": "/etc/modprobe.d/kvm.conf", "number": 2, "text": "options kvm_amd sev=0"}
    assert found["modprobe_lines"] == [line]
    # A device below another root is not this machine's: it is not opened.
    assert found["device"] == {"registered": True, "opened": None, "platform": None, "snp_platform": None}


@pytest.mark.parametrize(
    ("syscfg", "parameter", "lines", "expected"),
    [
        (("0x3fc0000", "0x3fc0000"), "Y", (_API,), True),
        (("0x3fc0000", "0x2fc0000"), "Y", (_API,), False),
        (("0x3fc0000", None), "Y", (_API,), False),
        ((), "Y", (_API,), False),
        (("0x3fc0000",), "N", (_API,), False),
        (("0x3fc0000",), None, (_API,), False),
        (("0x3fc0000",), "Y", (), False),
        (("0x3fc0000",), "Y", (_API, "ccp 0000:42:00.1: SEV-SNP: failed to INIT rc -5, error 0x3"), False),
        (("0x3fc0000",), "Y", (_API, "ccp 0000:42:00.1: SEV-SNP: SNP_INIT_EX failed rc -5, error 0x3"), False),
        (("0x3fc0000",), "Y", ("ccp 0000:42:00.1: SEV-SNP: failed to INIT rc -5, error 0x3", _API), True),
        (("0x3fc0000",), "Y", ("ccp 0000:42:00.1: SEV API:1.55 build:31",), False),
    ],
)
def test_the_snp_firmware_is_asked_only_where_everything_shows_it_initialized(
    syscfg: tuple[str | None, ...], parameter: str | None, lines: tuple[str, ...], expected: bool
) -> None:
    registers: Any = {str(cpu): {"SYSCFG": value} for cpu, value in enumerate(syscfg)}
    parameters = {} if parameter is None else {"sev_snp": parameter}
    modules: Any = {"kvm_amd": {"state": "live", "refcount": 0, "holders": [], "parameters": parameters}}
    assert is_snp_initialized(registers, modules, log(*lines)) is expected  # type: ignore[arg-type]
    assert is_snp_initialized(registers, None, log(*lines)) is False  # type: ignore[arg-type]


def test_a_host_without_the_driver_opens_no_device() -> None:
    if Path("/sys/class/misc/sev").exists():
        pytest.skip("this host has /dev/sev")
    found = read_device(Sysroot(), True)
    assert found["registered"] in (False, None)
    assert (found["opened"], found["platform"], found["snp_platform"]) == (None, None, None)
