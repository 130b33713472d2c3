"""The evidence about the host around KVM, from files below another root and from this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.host.host_context import read_context
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.json_schema import first_error, report_schema

RELEASE = "6.12.1-test"
CPU = "sys/devices/system/cpu"
FILES = {
    f"{CPU}/vulnerabilities/retbleed": "Mitigation: untrained return thunk\n",
    f"{CPU}/vulnerabilities/no name": "Vulnerable\n",
    f"{CPU}/smt/control": "on\n",
    f"{CPU}/smt/active": "1\n",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
    "sys/devices/system/clocksource/clocksource0/available_clocksource": "tsc hpet \n",
    "proc/meminfo": "MemTotal:       24684096 kB\nMemFree:  1 kB\n",
    "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "5\n",
    "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages": "many\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    "sys/firmware/acpi/tables/IVRS": "",
    "sys/class/iommu/ivhd0": "",
    "sys/kernel/iommu_groups/0/type": "DMA-FQ\n",
    "sys/kernel/iommu_groups/1/type": "identity\n",
    "sys/kernel/iommu_groups/2/devices": "",
    "sys/class/misc/vhost-net": "",
    "dev/vhost-net": "not a device",
    "dev/net/tun": "not a device",
    f"lib/modules/{RELEASE}/modules.devname": "tun net/tun c10:200\n",
    "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory\n",
    "proc/cgroups": "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\nmemory\t0\t1\t1\npids\t3\t1\t0\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def context(root: Path) -> Any:
    found = read_context(Sysroot(str(root)), RELEASE)
    schema = report_schema()
    assert first_error(found, schema["$defs"]["context"], schema) is None
    return found


def test_each_file_is_read(root: Path) -> None:
    found = context(root)
    node = {"number": None, "mode": found["devices"]["tun"]["mode"]}
    assert found == {
        "vulnerabilities": {"retbleed": "Mitigation: untrained return thunk"},
        "smt": {"control": "on", "active": "1"},
        "clock": {"current": "tsc", "available": "tsc hpet"},
        "memory_kb": 24684096,
        "huge_pages": {"2048kB": {"total": 5, "free": None}},
        "transparent_huge_pages": "always [madvise] never",
        "iommu": {
            "tables": ["IVRS"],
            "devices": ["ivhd0"],
            "groups": 3,
            "types": {"DMA-FQ": 1, "identity": 1, "unknown": 1},
        },
        "devices": {
            "vhost-net": {"path": "/dev/vhost-net", "registered": True, "type": "other", "loadable": None, **node},
            "vhost-vsock": {
                "path": "/dev/vhost-vsock",
                "registered": False,
                "type": None,
                "number": None,
                "mode": None,
                "loadable": None,
            },
            "tun": {"path": "/dev/net/tun", "registered": False, "type": "other", "loadable": True, **node},
        },
        "cgroups": {"unified": "cpuset cpu io memory", "mounted": ["cpu"]},
    }


def test_what_is_missing_is_unknown(tmp_path: Path) -> None:
    found = context(tmp_path)
    assert found["vulnerabilities"] is found["memory_kb"] is found["huge_pages"] is None
    assert set(found["smt"].values()) | set(found["clock"].values()) == {None}
    assert found["iommu"] == {"tables": None, "devices": None, "groups": None, "types": {}}
    assert {device["registered"] for device in found["devices"].values()} == {None}
    assert found["cgroups"] == {"unified": None, "mounted": None}


def test_a_kernel_without_huge_pages_and_iommu_has_none(root: Path) -> None:
    for path in ("sys/kernel/mm/hugepages", "sys/kernel/iommu_groups", "sys/class/iommu"):
        (root / path).rename(root / path.replace("/", "-"))
    found = context(root)
    assert found["huge_pages"] == {}
    assert found["iommu"]["groups"] == 0
    assert found["iommu"]["devices"] == []


def test_files_that_cannot_be_read_are_errors_or_unknown(root: Path) -> None:
    for name in (f"{CPU}/smt/active", "proc/meminfo", "sys/fs/cgroup/cgroup.controllers"):
        (root / name).unlink()
        (root / name).mkdir()
    found = context(root)
    assert found["smt"]["active"] == {"error": "EISDIR"}
    assert found["cgroups"]["unified"] == {"error": "EISDIR"}
    assert found["memory_kb"] is None


def test_this_machine_is_read_as_its_files_show_it() -> None:
    found = read_context(Sysroot("/"), os.uname().release)
    folder = Path("/sys/devices/system/cpu/vulnerabilities")
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    assert list(found["vulnerabilities"] or {}) == names
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024
    assert found["memory_kb"] == pages
    for device in found["devices"].values():
        assert (device["type"] is not None) == os.path.exists(device["path"])
