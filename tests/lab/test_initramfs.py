"""The cpio archives, extracted by real programs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmprobe.lab import external_programs, initramfs
from kvmprobe.lab.initramfs import Archive
from kvmprobe.model.errors import Problem
from tests.helpers import lab_images
from tests.helpers.real_kernels import unavailable


def _busybox() -> str:
    try:
        return external_programs.find("busybox", "busybox-static")
    except Problem as problem:
        unavailable(problem)


@pytest.fixture(params=["cpio", "busybox cpio"])
def reader(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "cpio":
        try:
            return [external_programs.find("cpio", "cpio")]
        except Problem as problem:
            pytest.skip(problem.message)
    return [_busybox(), "cpio"]


def _archive(size: int) -> bytes:
    archive = Archive()
    archive.file("init", b"#!/bin/sh\n", 0o755)
    archive.file("/a/deep/folder/file", bytes(range(256)) * size)
    archive.symlink("a/link", "deep/folder")
    archive.directory("a/deep")
    archive.file("a/empty", b"")
    return archive.finish()


@pytest.mark.parametrize("size", range(5))
def test_real_programs_extract_the_same(reader: list[str], size: int, tmp_path: Path) -> None:
    data = _archive(size)
    listed = subprocess.run([*reader, "-t"], input=data, capture_output=True, check=True).stdout.decode().split()
    assert listed == ["init", "a", "a/deep", "a/deep/folder", "a/deep/folder/file", "a/link", "a/empty"]
    subprocess.run([*reader, "-i", "-d"], input=data, capture_output=True, check=True, cwd=tmp_path)
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "a/link/file").read_bytes() == bytes(range(256)) * size
    assert (tmp_path / "a/empty").read_bytes() == b""


@pytest.mark.parametrize("size", range(5))
def test_an_archive_ends_at_a_multiple_of_4(size: int) -> None:
    # The kernel accepts the next archive only there (init/initramfs.c).
    assert len(_archive(size)) % 4 == 0


def test_the_base_archive_has_busybox_and_modules(tmp_path: Path) -> None:
    busybox = _busybox()
    (tmp_path / "lib/modules/6.1/kernel").mkdir(parents=True)
    (tmp_path / "lib/modules/6.1/kernel/kvm.ko").write_bytes(b"module")
    listed = external_programs.run(busybox, "cpio", "-t", stdin=initramfs.base(tmp_path)).decode().split()
    assert {"bin/busybox", "bin/sh", "bin/modprobe", "lib/modules/6.1/kernel/kvm.ko"} <= set(listed)
    applets = set(external_programs.run(busybox, "--list").decode().split())
    assert {name.removeprefix("bin/") for name in listed if name.startswith("bin/")} <= applets


def test_no_busybox(tmp_path: Path, only: Callable[..., None]) -> None:
    only()
    with pytest.raises(Problem, match="busybox is not installed") as caught:
        initramfs.base(tmp_path)
    assert "busybox-static" in str(caught.value.hint)


@pytest.mark.parametrize("content", [lab_images.elf((3, b"/lib64/ld-linux-x86-64.so.2\0")), b"#!/bin/sh\n"])
def test_a_busybox_that_is_not_static(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "busybox").write_bytes(content)
    (tmp_path / "busybox").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Problem, match="not a static x86-64 program"):
        initramfs.base(tmp_path)
