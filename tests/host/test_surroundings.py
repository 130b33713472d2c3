"""Where the host runs, and what this process may do, by the kernel's files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvmprobe.host.process_rights import read_rights
from kvmprobe.host.surroundings import read_surroundings
from kvmprobe.host.sysroot import Sysroot


def write(folder: Path, files: dict[str, str]) -> Sysroot:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Sysroot(str(folder))


@pytest.mark.parametrize(
    ("files", "container"),
    [
        ({}, None),
        ({"proc/1/cgroup": "0::/init.scope\n"}, None),
        ({"run/systemd/container": "wsl\n"}, None),
        ({"run/systemd/container": "lxc\n"}, "lxc"),
        ({"run/systemd/container": "systemd-nspawn"}, "systemd-nspawn"),
        ({"run/.containerenv": 'engine="podman-4.3.1"\n'}, "podman"),
        ({".dockerenv": ""}, "docker"),
        ({".dockerenv": "", "var/run/secrets/kubernetes.io/serviceaccount/token": "x"}, "kubernetes"),
        ({"proc/1/cgroup": "12:devices:/kubepods/besteffort/pod1\n"}, "kubernetes"),
        ({"proc/1/cgroup": "12:devices:/docker/0123456789\n"}, "docker"),
        ({"proc/1/cgroup": "0::/machine.slice/libpod-01.scope\n"}, "podman"),
        ({"proc/1/cgroup": "0::/lxc/101/ns\n"}, "lxc"),
    ],
)
def test_container(files: dict[str, str], container: str | None, tmp_path: Path) -> None:
    assert read_surroundings(write(tmp_path, files))["container"] == container


def test_xen_and_machine(tmp_path: Path) -> None:
    files = {
        "sys/hypervisor/type": "xen\n",
        "sys/hypervisor/properties/features": "00002f05\n",
        "sys/class/dmi/id/sys_vendor": "Amazon EC2\n",
        "sys/class/dmi/id/product_name": "m6a.large\n",
        "proc/sys/kernel/bootloader_type": "208\n",
    }
    assert read_surroundings(write(tmp_path, files)) == {
        "container": None,
        "hypervisor_type": "xen",
        "xen_features": "00002f05",
        "vendor": "Amazon EC2",
        "product": "m6a.large",
        "bootloader_type": "208",
    }


STATUS = "Name:\tx\nGid:\t1000\t1000\t1000\t1000\nGroups:\t4 104 1000 \nCapEff:\t0000000000000000\nSeccomp:\t2\n"
MOUNTS = (
    "24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    "25 24 0:5 / /dev rw,nosuid shared:2 - devtmpfs udev rw,size=1k\n"
    "26 25 0:6 / /dev/kvm rw,nodev - tmpfs tmpfs rw\n"
    "27 25 0:7 / /dev\\040x rw - tmpfs tmpfs rw\n"
)


def test_rights_of_a_process(tmp_path: Path) -> None:
    files = {
        "proc/self/status": STATUS,
        "proc/self/uid_map": "         0     100000      65536\n",
        "proc/self/mountinfo": MOUNTS,
        "sys/kernel/security/lsm": "lockdown,capability,landlock,apparmor\n",
        "etc/group": "root:x:0:\nkvm:x:104:alice\nalice:x:1000:\nbroken\n",
    }
    root = write(tmp_path, files)
    (tmp_path / "proc/self/ns").mkdir()
    (tmp_path / "proc/self/ns/pid").symlink_to("pid:[4026532001]")
    assert read_rights(root, with_mounts=True) == {
        "groups": ["alice", "4", "kvm"],
        "capabilities": "0000000000000000",
        "seccomp": "2",
        "user_namespace": True,
        "pid_namespace": True,
        "lsm": "lockdown,capability,landlock,apparmor",
        "dev_mounts": [
            {"path": "/dev", "type": "devtmpfs", "options": "rw,nosuid"},
            {"path": "/dev/kvm", "type": "tmpfs", "options": "rw,nodev"},
        ],
    }
    assert read_rights(root, with_mounts=False)["dev_mounts"] is None
    (tmp_path / "proc/self/ns/pid").unlink()
    (tmp_path / "proc/self/ns/pid").symlink_to("pid:[4026531836]")
    assert read_rights(root, with_mounts=False)["pid_namespace"] is False


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    error = {"error": "ENOENT"}
    assert read_rights(Sysroot(str(tmp_path)), with_mounts=True) == {
        "groups": error,
        "capabilities": error,
        "seccomp": error,
        "user_namespace": error,
        "pid_namespace": error,
        "lsm": None,
        "dev_mounts": error,
    }


def test_rights_of_this_process() -> None:
    found = read_rights(Sysroot(), with_mounts=True)
    assert isinstance(found["groups"], list)
    assert len(found["groups"]) == len({os.getegid(), *os.getgroups()})
    assert isinstance(found["capabilities"], str)
    assert int(found["capabilities"], 16) >= 0
