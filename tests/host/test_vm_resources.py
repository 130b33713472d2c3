"""What is left of a VM: real descriptors, and files in the place of /sys and /proc."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmprobe.host import kvm, processes
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.host.vm_resources import VmResources, references
from tests.helpers.own_processes import OwnProcesses
from tests.helpers.run_kvmprobe import PROJECT
from tests.helpers.watching import vmm


def write_references(sysroot: Path, text: str) -> None:
    (sysroot / "sys/module/kvm_amd").mkdir(parents=True, exist_ok=True)
    (sysroot / "sys/module/kvm_amd/refcnt").write_text(text)


@pytest.mark.usefixtures("kvm_device")
def test_a_vm_that_is_still_open_is_left_behind() -> None:
    """As where KVM_CREATE_VM opens a second descriptor that nobody knows."""
    resources = VmResources(Sysroot())
    with kvm.Kvm("/dev/kvm") as device:
        vm = device.create_vm()
    with vm:
        assert resources.left_behind()["descriptors"] == [kvm.VM_INODE]


@pytest.mark.usefixtures("kvm_device")
def test_nothing_is_left_of_a_vm_that_was_closed_nor_of_one_that_was_open_before() -> None:
    with kvm.Kvm("/dev/kvm") as device, device.create_vm():
        resources = VmResources(Sysroot())
        with device.create_vm():
            pass
        assert resources.left_behind()["descriptors"] == []


@pytest.mark.parametrize(
    ("text", "count"), [("3\n", 3), ("-1\n", -1), ("0", 0), ("", None), ("-", None), ("x", None), ("9" * 40, None)]
)
def test_references_of_kvm_amd(tmp_path: Path, text: str, count: int | None) -> None:
    write_references(tmp_path, text)
    assert references(Sysroot(str(tmp_path))) == count


def test_a_built_in_kvm_amd_has_no_number_of_references(tmp_path: Path) -> None:
    assert references(Sysroot(str(tmp_path))) is None


def test_other_users_are_searched_for_where_kvm_amd_has_more_references(tmp_path: Path) -> None:
    write_references(tmp_path, "1\n")
    (tmp_path / "proc/41/fd").mkdir(parents=True)
    (tmp_path / "proc/41/fd/7").symlink_to("anon_inode:kvm-vcpu:0")
    (tmp_path / "proc/41/comm").write_text("qemu\n")
    (tmp_path / "proc/42/fd").mkdir(parents=True)
    (tmp_path / "proc/42/fd/0").symlink_to("/dev/null")
    resources = VmResources(Sysroot(str(tmp_path)))
    assert resources.left_behind()["users"] is None
    write_references(tmp_path, "2\n")
    found = resources.left_behind()
    assert (found["references_before"], found["references_after"]) == (1, 2)
    assert found["users"] == [{"pid": 41, "comm": "qemu"}]


@pytest.mark.usefixtures("kvm_device")
def test_a_process_that_only_has_the_device_open_uses_kvm(own_processes: OwnProcesses) -> None:
    program = "import os; fd = os.open('/dev/kvm', os.O_RDWR); print('open', flush=True); time.sleep(600)"
    process = own_processes.start(vmm(program), cwd=PROJECT)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    root = Sysroot()
    assert process.pid in {user["pid"] for user in processes.kvm_users(root)}
    assert process.pid not in {user["pid"] for user in processes.kvm_users(root, {process.pid})}
    assert process.pid not in {user["pid"] for user in processes.vm_users(root)}
