"""Reads files that people name, and files in folders that other users may write to."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

# What `kvmprobe lab matrix` writes beside its reports: a list of its results, and no report itself.
MATRIX_SUMMARY = "summary.json"


def parts_of(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the content of `file`, unbuffered or compressed, in parts of at most `size` bytes. Raises OSError.

    Another process may have made standard input non-blocking: read() then returns None for data that has not come yet.
    """
    read = getattr(file, "read1", file.read)  # of a .gz: what was read stays, even if the next part is damaged
    while (part := read(size)) != b"":
        if part is None:
            select.select([file], [], [])
        else:
            yield part


def read_regular(path: str, limit: int) -> bytes:
    """Return a file's content. Raises OSError; ValueError where it is no regular file or larger than `limit` bytes.

    Anything else is not even opened: a pipe would block, a watchdog would start.
    """
    found = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        status = os.fstat(found)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a file")
        fd = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(found)
    try:
        text = b""
        while len(text) <= limit and (part := os.read(fd, max(status.st_size + 1 - len(text), 1 << 16))):
            text = text + part if text else part
    finally:
        os.close(fd)
    if len(text) > limit:
        raise ValueError(f"larger than {limit >> 20} MiB: not a report")
    return text
