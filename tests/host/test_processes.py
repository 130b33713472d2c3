"""Other processes: /proc of this host, and files in the place of /proc."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvmprobe.host import kvm, processes
from kvmprobe.host.sysroot import Sysroot
from tests.helpers.own_processes import OwnProcesses
from tests.helpers.run_kvmprobe import PROJECT
from tests.helpers.watching import vmm


def test_the_fields_of_this_process() -> None:
    root = Sysroot()
    assert processes.status_field(root, os.getpid(), "Tgid") == str(os.getpid())
    assert processes.status_field(root, os.getpid(), "PPid") == str(os.getppid())
    assert processes.status_field(root, os.getpid(), "TracerPid") == "0"
    assert processes.status_field(root, os.getpid(), "There is none") is None
    assert processes.status_field(root, 1 << 22, "Tgid") is None  # Above the kernel's limit.
    assert processes.process_name(root, os.getpid()) == Path("/proc/self/comm").read_text().strip()
    assert processes.process_name(root, 1 << 22) is None


@pytest.mark.usefixtures("kvm_device")
def test_a_vm_counts_as_long_as_it_is_open() -> None:
    root, pid = Sysroot(), os.getpid()
    with kvm.Kvm("/dev/kvm") as device:
        assert processes.count_vms(root, pid) == 0
        with device.create_vm(), device.create_vm():
            assert processes.count_vms(root, pid) == 2
        assert processes.count_vms(root, pid) == 0


@pytest.mark.usefixtures("kvm_device")
def test_the_vms_of_other_processes_are_counted(own_processes: OwnProcesses) -> None:
    process = own_processes.start(vmm("fds = vm(); print(len(fds), flush=True); time.sleep(600)"), cwd=PROJECT)
    assert process.stdout is not None
    assert process.stdout.readline() == "3\n"
    assert {"pid": process.pid, "vms": 1} in [
        {"pid": user["pid"], "vms": user["vms"]} for user in processes.vm_users(Sysroot())
    ]
    assert own_processes.vms() == 1  # By another way, for the tests that no VM is left.
    process.kill()
    process.wait()
    assert own_processes.vms() == processes.count_vms(Sysroot(), process.pid) == 0


def test_only_processes_with_vms_are_users(tmp_path: Path) -> None:
    links = {
        "7": [kvm.VM_INODE, kvm.VM_INODE, "/dev/null"],
        "8": ["/dev/kvm", f"{kvm.VCPU_INODE}:0", "anon_inode:kvm-vm-stats"],
        "9": [kvm.VM_INODE],
        str(os.getpid()): [kvm.VM_INODE],
        "²": [kvm.VM_INODE],  # A digit for str.isdigit(), but not for int().
        "self": [kvm.VM_INODE],
    }
    for name, targets in links.items():
        folder = tmp_path / "proc" / name / "fd"
        folder.mkdir(parents=True)
        for number, target in enumerate(targets):
            (folder / str(number)).symlink_to(target)
    (tmp_path / "proc/7/comm").write_text("qemu\n")
    assert processes.vm_users(Sysroot(str(tmp_path)), {9}) == [{"pid": 7, "comm": "qemu", "vms": 2}]
