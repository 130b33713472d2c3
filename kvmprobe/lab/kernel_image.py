"""Reads kernel images: checks the format, finds release and configuration, extracts the vmlinux that boots fastest.

A bzImage contains a compressed vmlinux and decompresses itself, which takes seconds under TCG. So this machine
decompresses it, and QEMU boots the vmlinux through its PVH entry. The layout is in Documentation/arch/x86/boot.rst.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

from kvmprobe.lab import elf
from kvmprobe.lab.compression import ZSTD, decompress
from kvmprobe.model.errors import DataProblem, Problem

_SETUP_SECTS = 0x1F1
_HEADER = 0x202
_VERSION = 0x206
_KERNEL_VERSION = 0x20E
_PAYLOAD = 0x248  # payload_offset and payload_length, since boot protocol 2.08
_RELEASE = re.compile(r"[\w.+~-]+", re.ASCII)  # what Kbuild accepts, so never a path
_BANNER = re.compile(rb"Linux version (\S+) \(")  # init/version.c, linux_banner
_IKCONFIG = b"IKCFG_ST\x1f\x8b"  # kernel/configs.c: the beginning of the configuration, which is packed with gzip
_SIZE_APPENDED = 4  # the kernel's build appends the decompressed size, which the program zstd rejects


def release(vmlinuz: Path) -> str | None:
    """Returns the release (`uname -r`) in a kernel image; None if the image does not contain one that can be right.

    Raises DataProblem if the file cannot be read or is not a kernel that QEMU can boot.
    """
    data = _read(vmlinuz)
    if elf.is_x86_64(data):
        if not _has_pvh_entry(data):
            raise DataProblem(f"{vmlinuz} has no PVH entry, so QEMU cannot boot it", "Give the bzImage of this kernel.")
        banner = _BANNER.search(data)
        return _valid_release(banner[1]) if banner else None
    if data[_HEADER : _HEADER + 4] != b"HdrS":
        raise DataProblem(f"{vmlinuz} is not an x86 kernel image", "Give a bzImage (vmlinuz) or a vmlinux.")
    (version,) = struct.unpack_from("<H", data, _KERNEL_VERSION)
    if version == 0:
        return None
    return _valid_release(data[0x200 + version :][:256].split(b"\0")[0].split(b" ")[0])


def unpack(vmlinuz: Path, vmlinux: Path) -> None:
    """Extracts the vmlinux from `vmlinuz` to the file `vmlinux`. Writes nothing if there is none that QEMU can boot."""
    data = _read(vmlinuz)
    if elf.is_x86_64(data):
        return
    unpacked = _unpacked(data)
    if elf.is_x86_64(unpacked) and _has_pvh_entry(unpacked):
        vmlinux.write_bytes(unpacked)


def configuration(image: Path) -> str | None:
    """Returns the configuration that a kernel has in its image (CONFIG_IKCONFIG=y); None if there is none.

    Raises DataProblem if the file cannot be read.
    """
    data = _read(image)
    _, mark, packed = (data if elf.is_x86_64(data) else _unpacked(data)).partition(_IKCONFIG)
    try:
        text = decompress(mark[-2:] + packed)
    except Problem:
        return None
    return None if text is None else text.decode("utf-8", "replace")


def _unpacked(bzimage: bytes) -> bytes:
    """The vmlinux in a bzImage, or nothing: a boot shows better what is wrong with a damaged kernel."""
    try:
        return decompress(_payload(bzimage)) or b""
    except Problem:
        return b""


def _valid_release(name: bytes) -> str | None:
    text = name.decode("ascii", "replace")
    return text if _RELEASE.fullmatch(text) else None


def _has_pvh_entry(data: bytes) -> bool:
    return elf.has_note(data, b"Xen", elf.XEN_ELFNOTE_PHYS32_ENTRY)


def _payload(bzimage: bytes) -> bytes:
    (protocol,) = struct.unpack_from("<H", bzimage, _VERSION)
    if protocol < 0x208:
        return b""
    start = ((bzimage[_SETUP_SECTS] or 4) + 1) * 512
    offset, length = struct.unpack_from("<II", bzimage, _PAYLOAD)
    payload = bzimage[start + offset : start + offset + length]
    return payload[:-_SIZE_APPENDED] if payload.startswith(ZSTD) else payload


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataProblem(f"{path} cannot be read: {error.strerror}") from error
    if len(data) < 4096:
        raise DataProblem(f"{path} is not an x86 kernel image: it has only {len(data)} bytes")
    return data
