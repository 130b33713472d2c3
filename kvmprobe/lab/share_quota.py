"""Limits what a guest can write on this machine. The guest is hostile, and it is root in its share."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from kvmprobe.lab import external_programs

FILE_LIMIT = 32 << 20  # bytes of each file, the console's log included; a report of 4,096 CPUs has some 4 MiB
_SHARE_LIMIT = 64 << 20  # bytes of all files in the share
_RENAMED = 16 << 20  # bytes that count for a file that has just been renamed; init.sh renames one
_COUNT_LIMIT = 256  # files and folders; init.sh leaves 7, and QEMU a file with the attributes of each


def limited(argv: Sequence[str]) -> list[str]:
    """The command line of a program that the kernel ends by SIGXFSZ when one of its files gets larger than FILE_LIMIT.

    The limit is set before the program starts: a QEMU that has become another user can be limited only with
    CAP_SYS_RESOURCE. Raises a Problem where prlimit(1) is missing.
    """
    return [external_programs.find("prlimit", "util-linux"), f"--fsize={FILE_LIMIT}:{FILE_LIMIT}", *argv]


def excess(share: Path, pid: int) -> str:
    """Returns which limit the content of the share exceeds, "" if none.

    `pid` is the process that writes to the share: files that the guest has removed and has open need space, too.
    """
    size = 0
    try:
        for count, found in enumerate(chain(_linked(share), _unlinked(share, pid)), 1):
            size += found
            if count > _COUNT_LIMIT:
                return f"the guest left more than {_COUNT_LIMIT} files"
            if size > _SHARE_LIMIT:
                return f"the guest left more than {_SHARE_LIMIT >> 20} MiB"
    except OSError as error:  # a path is too long, or the guest renames folders: neither is what a result needs
        return f"the guest left a folder that cannot be read: {error.strerror}"
    return ""


def _linked(share: Path) -> Iterator[int]:
    """The bytes that each file and folder in the share needs. Raises OSError if a folder cannot be read."""
    left = [str(share)]
    while left:
        with os.scandir(left.pop()) as entries:
            for entry in entries:
                try:
                    state = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # it has just been renamed; a guest must not hide files in this way
                    yield _RENAMED
                    continue
                if stat.S_ISDIR(state.st_mode):
                    left.append(entry.path)
                yield state.st_blocks * 512


def _unlinked(share: Path, pid: int) -> Iterator[int]:
    """The bytes that each removed file needs that the process has open on the share's file system."""
    device = share.stat().st_dev
    with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:  # the process may have ended
        for entry in entries:
            with suppress(OSError):
                state = entry.stat()
                if stat.S_ISREG(state.st_mode) and state.st_nlink == 0 and state.st_dev == device:
                    yield state.st_blocks * 512
