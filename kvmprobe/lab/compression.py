"""Undoing the compressions that kernels and modules come in."""

from __future__ import annotations

import lzma
import shutil
import zlib

from kvmprobe.lab import tools
from kvmprobe.model.errors import Problem

_XZ = b"\xfd7zXZ\x00"
_GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"


def decompress(data: bytes) -> bytes | None:
    """The content of xz, gzip or zstd `data`; None for anything else, and for zstd without the program zstd.

    Bytes after an xz or gzip stream are ignored. Raises Problem where the stream is damaged or cut short.
    """
    if data.startswith(ZSTD):
        zstd = shutil.which("zstd")
        return tools.run(zstd, "-dc", stdin=data) if zstd else None
    try:
        if data.startswith(_XZ):
            xz = lzma.LZMADecompressor()
            return _whole(xz.decompress(data), xz.eof)
        if data.startswith(_GZIP):
            gzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            return _whole(gzip.decompress(data), gzip.eof)
    except (lzma.LZMAError, zlib.error) as error:
        raise Problem(f"compressed data is damaged: {error}") from error
    return None


def _whole(data: bytes, ended: bool) -> bytes:
    if not ended:
        raise Problem("compressed data is cut short")
    return data
