"""Where tracefs is, and mounting it for this process alone (Documentation/trace/ftrace.rst)."""

from __future__ import annotations

import ctypes
import os

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.errors import Problem

if TYPE_CHECKING:
    from typing import Callable

_USUAL_PATH = "/sys/kernel/tracing"

# linux/sched.h, linux/mount.h
_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18


def find_tracefs(mount: bool) -> str:
    """Return the folder on which tracefs is mounted. Raises Problem where it is not.

    `mount`: where it is not mounted, mount it for this process and its children alone.
    """
    root = Sysroot()
    mounts = [line.split() for line in (root.read_text_or_none("/proc/self/mounts") or "").splitlines()]
    for fields in mounts:
        if len(fields) > 2 and fields[2] == "tracefs" and os.path.isdir(f"{fields[1]}/instances"):
            return fields[1]
    if not os.path.isdir(_USUAL_PATH):
        raise Problem(f"this kernel has no tracing: there is no {_USUAL_PATH}", "Use a kernel with CONFIG_FTRACE.")
    if not mount:
        if not os.access(_USUAL_PATH, os.X_OK):
            raise Problem(f"{_USUAL_PATH} may not be read", "Run as root.")
        raise Problem(
            f"tracefs is not mounted on {_USUAL_PATH}",
            f"--mount mounts it for kvmprobe alone, 'mount -t tracefs tracefs {_USUAL_PATH}' for all processes.",
        )
    _mount_privately()
    return _USUAL_PATH


def _mount_privately() -> None:
    """Mount tracefs in a new mount namespace, which ends with this process: the mounts of the machine do not change.

    Raises Problem.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    calls: tuple[tuple[str, Callable[[], int]], ...] = (
        ("unshare(CLONE_NEWNS)", lambda: libc.unshare(_CLONE_NEWNS)),
        (
            "making the mounts of the new namespace private",
            lambda: libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None),
        ),
        (
            f"mounting tracefs on {_USUAL_PATH}",
            lambda: libc.mount(b"tracefs", _USUAL_PATH.encode(), b"tracefs", ctypes.c_ulong(0), None),
        ),
    )
    for what, call in calls:
        if call() != 0:
            code = ctypes.get_errno()
            raise Problem(f"--mount: {what}: {os.strerror(code)}", "Run as root, with CAP_SYS_ADMIN.")
