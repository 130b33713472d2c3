"""/dev/null, and what takes its place where it cannot be opened."""

from __future__ import annotations

import os


def open_null() -> int:
    """Return a descriptor of /dev/null for reading and writing.

    Where /dev is mounted with nodev, or there is no /dev/null, it is that of an empty file in memory: kvmprobe has to
    report just that mount.
    """
    try:
        return os.open(os.devnull, os.O_RDWR)
    except OSError:
        return os.memfd_create("null")
