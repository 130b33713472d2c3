"""Which CPUs are online: no source is taken for another one, and what no source shows is unknown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvmprobe.host.cpus import listed_cpus, online_cpus
from kvmprobe.host.sysroot import Sysroot
from tests.helpers.run_kvmprobe import PROJECT

ONLINE = "/sys/devices/system/cpu/online"


def root_with(folder: Path, **files: str) -> Sysroot:
    for name, content in files.items():
        path = folder / {"online": ONLINE[1:], "cpuinfo": "proc/cpuinfo"}[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return Sysroot(str(folder))


def device(folder: Path, name: str) -> None:
    path = folder / "dev/cpu" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_the_kernels_list_comes_first(tmp_path: Path) -> None:
    root = root_with(tmp_path, online="0-3,8\n", cpuinfo="processor : 0\n\nprocessor : 1\n")
    assert listed_cpus(root) == online_cpus(root) == [0, 1, 2, 3, 8]


def test_without_sys_cpuinfo_lists_them(tmp_path: Path) -> None:
    root = root_with(tmp_path, cpuinfo="processor : 0\n\nprocessor : 2\n")
    assert listed_cpus(root) == online_cpus(root) == [0, 2]


def test_without_both_the_list_is_unknown(tmp_path: Path) -> None:
    root = root_with(tmp_path)
    assert listed_cpus(root) is None
    assert online_cpus(root) == []
    device(tmp_path, "0/msr")
    device(tmp_path, "1/cpuid")
    assert listed_cpus(root) is None
    assert online_cpus(root) == [0, 1]


def test_a_device_shows_a_cpu_that_a_renumbered_list_lacks(tmp_path: Path) -> None:
    """lxcfs numbers the CPUs of a container from 0 in /proc and /sys."""
    root = root_with(tmp_path, online="0-1", cpuinfo="processor : 0\n\nprocessor : 1\n")
    for name in ("0/msr", "5/msr", "microcode", "6/other", "-1/msr", "99999999/msr"):
        device(tmp_path, name)
    assert listed_cpus(root) == [0, 1]
    assert online_cpus(root) == [0, 1, 5]


def test_a_device_that_cannot_be_opened_is_no_cpu(tmp_path: Path) -> None:
    """A static /dev has devices of CPUs that are offline: their open gives ENXIO."""
    if os.geteuid() != 0:
        pytest.skip("making devices needs root")
    root = root_with(tmp_path, online="0")
    (tmp_path / "dev/cpu/7").mkdir(parents=True)
    os.mknod(tmp_path / "dev/cpu/7/msr", 0o20600, os.makedev(202, 4000))
    assert online_cpus(root) == [0]


def test_affinity_is_never_taken_for_the_list() -> None:
    """A real root without /proc and /sys, as in a chroot: this process may use one CPU, and there may be more."""
    cpu = min(os.sched_getaffinity(0))
    code = """
import os, sys
from kvmprobe.host import cpus, sysroot
os.sched_setaffinity(0, {int(sys.argv[1])})
root = sysroot.Sysroot("/")
root.open = lambda name: (_ for _ in ()).throw(FileNotFoundError(2, "gone", name))
print(cpus.listed_cpus(root), cpus.online_cpus(root))
"""
    command = [sys.executable, "-c", code, str(cpu)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"None [{cpu}]\n"
