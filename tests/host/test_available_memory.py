"""How much memory was left when KVM_CREATE_VM answered ENOMEM."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmprobe.host.available_memory import available_kb
from kvmprobe.host.sysroot import Sysroot

_MACHINE_KB = 2_000_000
_INITIAL = "cgroup:[4026531835]"
_GROUPS = "sys/fs/cgroup"


def machine(
    tmp_path: Path, cgroup: str = "0::/\n", files: dict[str, str] | None = None, namespace: str = _INITIAL
) -> Sysroot:
    (tmp_path / "proc/self/ns").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 9999999 kB\nMemAvailable:   {_MACHINE_KB} kB\n")
    (tmp_path / "proc/self/cgroup").write_text(cgroup)
    (tmp_path / "proc/self/ns/cgroup").symlink_to(namespace)
    for name, text in {f"{_GROUPS}/cgroup.controllers": "cpu memory\n", **(files or {})}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Sysroot(str(tmp_path))


def limit(group: str, most: str, used: str = "0") -> dict[str, str]:
    return {f"{_GROUPS}/{group}/memory.max": f"{most}\n", f"{_GROUPS}/{group}/memory.current": f"{used}\n"}


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/\n", {}, _MACHINE_KB),
        ("0::/a.slice/b.service\n", {}, _MACHINE_KB),
        ("0::/a.slice/b.service\n", limit("a.slice/b.service", "max"), _MACHINE_KB),
        ("0::/a.slice/b.service\n", limit("a.slice/b.service", "8388608", "4194304"), 4096),
        ("0::/a.slice/b.service\n", {**limit("a.slice", "1048576"), **limit("a.slice/b.service", "max")}, 1024),
        ("0::/a.slice\n", limit("a.slice", "1048576", "2097152"), 0),
        ("0::/a.slice\n", limit("a.slice", "many"), None),
        ("4:memory:/\n0::/\n", {}, _MACHINE_KB),
        ("4:memory:/docker/1\n0::/\n", {}, None),  # version 1
        ("", {}, None),
    ],
)
def test_the_least_of_machine_and_groups(
    tmp_path: Path, cgroup: str, files: dict[str, str], expected: int | None
) -> None:
    assert available_kb(machine(tmp_path, cgroup, files)) == expected


def test_unknown_in_a_namespace_which_hides_the_groups_above(tmp_path: Path) -> None:
    assert available_kb(machine(tmp_path, namespace="cgroup:[4026532000]")) is None


def test_unknown_without_meminfo_or_cgroups(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/a\n")
    (tmp_path / _GROUPS / "cgroup.controllers").unlink()
    assert available_kb(root) is None
    (tmp_path / "proc/meminfo").unlink()
    assert available_kb(root) is None
