"""Kernel images: which files are one, and the vmlinux that comes out."""

from __future__ import annotations

import gzip
import lzma
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmprobe.lab import kernel_image, kernels
from kvmprobe.lab.kernels import Kernel
from kvmprobe.model.errors import DataProblem
from tests.helpers import lab_images


def _zstd(data: bytes) -> bytes:
    if not shutil.which("zstd"):
        pytest.skip("zstd is not installed")
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout


def _with_size(data: bytes, whole: bytes) -> bytes:
    return data + struct.pack("<I", len(whole))


@pytest.mark.parametrize(
    "compress",
    [lambda data: _with_size(lzma.compress(data), data), gzip.compress, lambda data: _with_size(_zstd(data), data)],
    ids=["xz", "gzip", "zstd"],
)
def test_the_vmlinux_is_extracted(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(lab_images.bzimage(compress(lab_images.vmlinux())))
    kernel_image.unpack(tmp_path / "vmlinuz", tmp_path / "vmlinux")
    assert (tmp_path / "vmlinux").read_bytes() == lab_images.vmlinux()
    assert kernel_image.release(tmp_path / "vmlinuz") == "6.1.0-test"
    assert kernel_image.release(tmp_path / "vmlinux") is None


@pytest.mark.parametrize("name", ["../../etc/x", "6.1\x1b[2J", "", "6.1.0-ä"])
def test_a_release_that_no_kernel_has_is_unknown(name: str, tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(lab_images.bzimage(b"", release=name))
    (tmp_path / "vmlinux").write_bytes(lab_images.vmlinux() + f"\0Linux version {name} (builder@host)\0".encode())
    assert kernel_image.release(tmp_path / "vmlinuz") is None
    assert kernel_image.release(tmp_path / "vmlinux") is None


@pytest.mark.parametrize(
    "payload",
    [
        lzma.compress(lab_images.elf((1, b"code"))),  # no PVH entry
        lzma.compress(b"no kernel" * 1000),
        lzma.compress(lab_images.vmlinux())[:-40],
        lzma.compress(lab_images.vmlinux())[:100] + b"damage" * 100,
        b"\x28\xb5\x2f\xfd is not zstd",
        b"an unknown compression",
        b"",
    ],
)
def test_nothing_is_extracted_from_an_unknown_or_damaged_image(payload: bytes, tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(lab_images.bzimage(payload))
    kernel_image.unpack(tmp_path / "vmlinuz", tmp_path / "vmlinux")
    assert not (tmp_path / "vmlinux").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an x86 kernel image"),
        (b"#!/bin/sh\n" * 1000, "not an x86 kernel image"),
        (lab_images.elf((1, b"code")), "no PVH entry"),
        (lab_images.elf((4, lab_images.note(b"Xen", 17))), "no PVH entry"),
        (lab_images.elf((4, lab_images.note(b"Xen", 18)), machine=183), "not an x86 kernel image"),
        (lab_images.elf((4, b"\xff" * 20)), "no PVH entry"),
        (lab_images.vmlinux()[:64] + b"\xff" * 8000, "no PVH entry"),
    ],
)
def test_files_that_are_no_kernel(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataProblem, match=message):
        kernel_image.release(tmp_path / "file")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataProblem, match="cannot be read"):
        kernel_image.release(tmp_path / "missing")
    with pytest.raises(DataProblem, match="cannot be read"):
        kernel_image.release(tmp_path)


@pytest.mark.kernel
@pytest.mark.parametrize("name", [row.suite for row in kernels.DEBIAN])
def test_real_kernels_are_extracted(name: str, real_kernel: Callable[[str], Kernel]) -> None:
    kernel = real_kernel(name)
    assert kernel.image.name == "vmlinux"
    assert kernel_image.release(kernel.image.with_name("vmlinuz")) == kernel.release
