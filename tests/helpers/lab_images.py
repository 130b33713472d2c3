"""Minimal kernel images and ELF files, with only the parts that the lab reads."""

from __future__ import annotations

import struct


def elf(*segments: tuple[int, bytes], machine: int = 62) -> bytes:
    """Returns an x86-64 ELF file of 8 KiB or more with these segments (type, content)."""
    at = 64 + 56 * len(segments)
    headers, contents = b"", b""
    for kind, content in segments:
        headers += struct.pack("<IIQQQQQQ", kind, 4, at + len(contents), 0, 0, len(content), len(content), 4)
        contents += content
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    ehdr = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, machine, 1, 0, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
    return (ehdr + headers + contents).ljust(8192, b"\0")


def note(owner: bytes, kind: int, content: bytes = b"\0" * 8) -> bytes:
    """Returns an ELF note of type `kind`."""
    name = owner + b"\0"
    header = struct.pack("<III", len(name), len(content), kind)
    return header + name.ljust(-(-len(name) // 4) * 4, b"\0") + content


def vmlinux() -> bytes:
    """Returns a vmlinux with the PVH entry. The name of the note before it needs padding."""
    return elf((1, b"code"), (4, note(b"GNU build", 3, b"1234") + note(b"Xen", 18)))


def bzimage(payload: bytes, release: str = "6.1.0-test") -> bytes:
    """Returns a bzImage with this payload."""
    setup_sects = 4
    header = bytearray((setup_sects + 1) * 512)
    header[0x1F1] = setup_sects
    struct.pack_into("<4sH", header, 0x202, b"HdrS", 0x20F)
    struct.pack_into("<H", header, 0x20E, 0x300)
    struct.pack_into("<II", header, 0x248, 16, len(payload))
    version = f"{release} (builder@host) #1".encode() + b"\0"
    header[0x500 : 0x500 + len(version)] = version
    return bytes(header) + b"\0" * 16 + payload + b"\0" * 4096
