"""Runs a command in a guest where something keeps /dev/kvm from it: `python3 -S sandbox.py KIND COMMAND...`.

KIND is seccomp (ioctl answers EPERM), landlock (no file may be opened for writing; it is what an LSM of a distribution
does, without its tools), or cgroup (the device cgroup allows no device). Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_IOCTL, _BPF, _LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 16, 321, 444, 446  # asm/unistd_64.h
_LANDLOCK_ACCESS_FS_WRITE_FILE = 1 << 1
_BPF_PROG_LOAD, _BPF_PROG_ATTACH, _BPF_PROG_TYPE_CGROUP_DEVICE, _BPF_CGROUP_DEVICE = 5, 8, 15, 6
_CGROUP = "/sys/fs/cgroup/without-devices"


def _call(number: int, *arguments: object) -> int:
    answer = int(_LIBC.syscall(number, *arguments))
    if answer < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return answer


def seccomp() -> None:
    """A filter in classic BPF: system call 16 (ioctl) answers EPERM, every other one is allowed."""
    load, jump_if_equal, answer = 0x20, 0x15, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | 1  # SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with EPERM
    steps = ((load, 0, 0, 0), (jump_if_equal, 0, 1, _IOCTL), (answer, 0, 0, refuse), (answer, 0, 0, allow))
    text = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(steps), ctypes.addressof(text)))
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if _LIBC.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")


def landlock() -> None:
    """A ruleset without rules: nobody below this process may open a file for writing."""
    ruleset = ctypes.create_string_buffer(struct.pack("<Q", _LANDLOCK_ACCESS_FS_WRITE_FILE))
    number = _call(_LANDLOCK_CREATE_RULESET, ruleset, 8, 0)
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call(_LANDLOCK_RESTRICT_SELF, number, 0)


def cgroup() -> None:
    """A cgroup whose device program answers 0 (no) for each device that is opened."""
    steps = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0))  # r0 = 0; exit
    licence = ctypes.create_string_buffer(b"GPL")
    load = struct.pack(
        "<IIQQ", _BPF_PROG_TYPE_CGROUP_DEVICE, 2, ctypes.addressof(steps), ctypes.addressof(licence)
    ).ljust(72, b"\0")
    program = _call(_BPF, _BPF_PROG_LOAD, ctypes.create_string_buffer(load), 72)
    os.makedirs(_CGROUP, exist_ok=True)
    with open(f"{_CGROUP}/cgroup.procs", "w", encoding="ascii") as members:
        members.write(str(os.getpid()))
    attach = struct.pack("<IIII", os.open(_CGROUP, os.O_RDONLY), program, _BPF_CGROUP_DEVICE, 0)
    _call(_BPF, _BPF_PROG_ATTACH, ctypes.create_string_buffer(attach), len(attach))


{"seccomp": seccomp, "landlock": landlock, "cgroup": cgroup}[sys.argv[1]]()
os.execvp(sys.argv[2], sys.argv[2:])
