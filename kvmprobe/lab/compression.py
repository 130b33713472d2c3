"""Decompresses what kernels and modules are packed with: xz, gzip, zstd."""

from __future__ import annotations

import lzma
import shutil
import zlib

from kvmprobe.lab import external_programs
from kvmprobe.model.errors import Problem

_XZ = b"\xfd7zXZ\x00"
_GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"


def decompress(data: bytes) -> bytes | None:
    """Returns the content of xz, gzip or zstd `data`; None for other data, and for zstd if zstd is not installed.

    Ignores bytes after an xz or gzip stream. Raises Problem if the stream is damaged or truncated.
    """
    if data.startswith(ZSTD):
        zstd = shutil.which("zstd")
        return external_programs.run(zstd, "-dc", stdin=data) if zstd else None
    try:
        if data.startswith(_XZ):
            xz = lzma.LZMADecompressor()
            return _complete(xz.decompress(data), xz.eof)
        if data.startswith(_GZIP):
            gzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            return _complete(gzip.decompress(data), gzip.eof)
    except (lzma.LZMAError, zlib.error) as error:
        raise Problem(f"compressed data is damaged: {error}") from error
    return None


def _complete(data: bytes, at_end: bool) -> bytes:
    if not at_end:
        raise Problem("compressed data is truncated")
    return data
