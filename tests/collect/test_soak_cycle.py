"""One cycle of `kvmprobe soak`: what it makes of the registers, which are files here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kvmprobe.collect.soak.cpu_hotplug import CpuHotplug
from kvmprobe.collect.soak.cycle import Cycle, CycleFailed
from kvmprobe.collect.soak.open_msrs import OpenMsrs
from kvmprobe.host.guest import GuestAlarm
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.host.udev import Udev

_EFER, _VM_CR, _VM_HSAVE_PA = 0xC0000080, 0xC0010114, 0xC0010117


@pytest.fixture
def root(tmp_path: Path) -> Sysroot:
    """Files of two CPUs whose registers are 0."""
    (tmp_path / "sys/devices/system/cpu").mkdir(parents=True)
    (tmp_path / "sys/devices/system/cpu/online").write_text("0-1\n")
    for cpu in (0, 1):
        (tmp_path / f"sys/devices/system/cpu/cpu{cpu}").mkdir()
        (tmp_path / f"sys/devices/system/cpu/cpu{cpu}/online").touch()
        (tmp_path / f"dev/cpu/{cpu}").mkdir(parents=True)
        with (tmp_path / f"dev/cpu/{cpu}/msr").open("wb") as file:
            file.truncate((0xC0010117 + 1) * 8)
    return Sysroot(str(tmp_path))


def write_register(sysroot: Path, cpu: int, number: int, value: int) -> None:
    with (sysroot / f"dev/cpu/{cpu}/msr").open("r+b") as file:
        file.seek(number * 8)
        file.write(value.to_bytes(8, "little"))


def _cycle(root: Sysroot, msrs: OpenMsrs, virt_at_load: bool = False) -> Cycle:
    return Cycle(root, None, msrs, Udev(root), virt_at_load, vms=1, alarm=GuestAlarm())  # type: ignore[arg-type]


def test_registers_that_can_no_longer_be_read_are_a_failure(root: Sysroot, tmp_path: Path) -> None:
    with OpenMsrs(root) as msrs:
        assert msrs.readable
        cycle = _cycle(root, msrs)
        cycle.check_released("closed")
        (tmp_path / "dev/cpu/1/msr").unlink()
        msrs.close()  # As when a CPU goes offline.
        with pytest.raises(CycleFailed, match="can no longer be read"):
            cycle.check_released("closed")


def test_a_cpu_that_comes_online_without_its_registers_is_a_failure(root: Sysroot, tmp_path: Path) -> None:
    with OpenMsrs(root) as msrs:
        hotplug = CpuHotplug(root, msrs)
        (tmp_path / "dev/cpu/1/msr").unlink()
        with pytest.raises(CycleFailed, match="can no longer be read"):
            hotplug.run()
        assert hotplug.done == 0


@pytest.mark.parametrize(
    ("at_load", "efer", "pages", "what"),
    [
        (False, 0xD01, (0, 0x3000), "cpu1: VM_HSAVE_PA is 0x3000 although SVME is 0 after the last VM"),
        (True, 0x1D01, (0x2000, 0), "cpu1: VM_HSAVE_PA is 0 although SVME is 1 after the last VM"),
        (True, 0x1D01, (0x2000, 0x2000), "cpu0-1: VM_HSAVE_PA is 0x2000 on 2 CPUs after the last VM"),
        (True, 0x1D01, (0x2000, 0x2800), "cpu1: VM_HSAVE_PA is 0x2800, which is not the address of a page after"),
        (True, 0x1D01, (0x2000, 0x3000), None),
        (False, 0xD01, (0, 0), None),
    ],
)
def test_the_page_of_each_cpu_is_checked_in_every_cycle(
    root: Sysroot, tmp_path: Path, at_load: bool, efer: int, pages: tuple[int, int], what: str | None
) -> None:
    for cpu in (0, 1):
        write_register(tmp_path, cpu, _EFER, efer)
        write_register(tmp_path, cpu, _VM_HSAVE_PA, 0x1000 * (cpu + 2) if at_load else 0)
    with OpenMsrs(root) as msrs:
        cycle = _cycle(root, msrs, virt_at_load=at_load)
        cycle.check_released("closed")
        for cpu, page in enumerate(pages):
            write_register(tmp_path, cpu, _VM_HSAVE_PA, page)
        if what is None:
            cycle.check_released("closed")
            return
        with pytest.raises(CycleFailed, match=re.escape(what)) as found:
            cycle.check_released("closed")
        assert found.value.reason == "register-corrupted"


@pytest.mark.parametrize(
    ("number", "value", "what"),
    [
        (_EFER, 0x4D01, "cpu1: EFER 0xd01 -> 0x4d01: a bit other than SVME changed after the last VM"),
        (_VM_CR, 0x8, "cpu1: VM_CR 0x0 -> 0x8: KVM does not write it after the last VM"),
    ],
)
def test_a_bit_that_changes_in_a_later_cycle_is_a_failure(
    root: Sysroot, tmp_path: Path, number: int, value: int, what: str
) -> None:
    for cpu in (0, 1):
        write_register(tmp_path, cpu, _EFER, 0xD01)
    with OpenMsrs(root) as msrs:
        cycle = _cycle(root, msrs)
        cycle.check_released("closed")
        write_register(tmp_path, 1, number, value)
        with pytest.raises(CycleFailed, match=re.escape(what)) as found:
            cycle.check_released("closed")
        assert found.value.reason == "register-corrupted"


def test_a_page_that_is_left_while_kvm_amd_is_unloaded_is_a_failure(root: Sysroot, tmp_path: Path) -> None:
    with OpenMsrs(root) as msrs:
        cycle = _cycle(root, msrs, virt_at_load=True)
        cycle.check_unloaded()
        write_register(tmp_path, 0, _VM_HSAVE_PA, 0x5000)
        with pytest.raises(CycleFailed, match=r"cpu0: VM_HSAVE_PA is 0x5000 .* while kvm_amd is unloaded") as found:
            cycle.check_unloaded()
        assert found.value.reason == "register-corrupted"


def test_a_cpu_that_comes_online_without_a_page_of_its_own_is_a_corrupted_register(
    root: Sysroot, tmp_path: Path
) -> None:
    for cpu in (0, 1):
        write_register(tmp_path, cpu, _EFER, 0x1D01)
        write_register(tmp_path, cpu, _VM_HSAVE_PA, 0x2000)
    with OpenMsrs(root) as msrs, pytest.raises(CycleFailed, match="cpu0-1: VM_HSAVE_PA is 0x2000 on 2 CPUs") as found:
        CpuHotplug(root, msrs).run()
    assert found.value.reason == "register-corrupted"


def test_a_device_that_is_gone_after_a_reload_is_a_failure(root: Sysroot, tmp_path: Path) -> None:
    with OpenMsrs(root) as msrs:
        cycle = _cycle(root, msrs)
        with pytest.raises(CycleFailed, match="kvm cannot be opened again: ENOENT"):
            cycle.reopen_device(str(tmp_path / "dev/kvm"))
