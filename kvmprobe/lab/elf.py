"""Reads from an ELF file what the lab needs to know: its segments and its notes."""

from __future__ import annotations

import struct
from collections.abc import Iterator

MAGIC = b"\x7fELF"

# From elf.h and the kernel's include/xen/interface/elfnote.h
PT_INTERP = 3
PT_NOTE = 4
EM_X86_64 = 62
XEN_ELFNOTE_PHYS32_ENTRY = 18

_ELFCLASS64_LSB = b"\x02\x01"
_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_NHDR = struct.Struct("<III")


def is_x86_64(data: bytes) -> bool:
    """Whether `data` is a 64-bit little-endian ELF file for x86-64."""
    if len(data) < _EHDR.size or data[:4] != MAGIC or data[4:6] != _ELFCLASS64_LSB:
        return False
    return bool(_EHDR.unpack_from(data)[2] == EM_X86_64)


def segments(data: bytes, kind: int) -> Iterator[bytes]:
    """Yields the content of each segment of type `kind` (PT_…). Ends where `data` is truncated."""
    _, _, _, _, _, phoff, _, _, _, phentsize, phnum, *_ = _EHDR.unpack_from(data)
    for number in range(phnum):
        at = phoff + number * phentsize
        if at + _PHDR.size > len(data):
            return
        p_type, _, offset, _, _, filesz, _, _ = _PHDR.unpack_from(data, at)
        if p_type == kind:
            yield data[offset : offset + filesz]


def has_note(data: bytes, owner: bytes, kind: int) -> bool:
    """Whether the file has a note of type `kind` with the name `owner`."""
    for notes in segments(data, PT_NOTE):
        at = 0
        while at + _NHDR.size <= len(notes):
            namesz, descsz, n_type = _NHDR.unpack_from(notes, at)
            at += _NHDR.size
            if n_type == kind and notes[at : at + namesz] == owner + b"\0":
                return True
            at += _aligned(namesz) + _aligned(descsz)
    return False


def _aligned(size: int) -> int:
    return size + 3 & ~3
