"""Which system calls are KVM's ioctls of interest, whatever ABI the program has."""

from __future__ import annotations

import errno
import os

from kvmprobe import TYPE_CHECKING
from kvmprobe.host import kvm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvmprobe.collect.watch.ptrace_calls import ptrace_syscall_info
    from kvmprobe.model.evidence import Answer

# ioctl's number by AUDIT_ARCH_… (linux/audit.h): x86_64 with x32 (asm/unistd_x32.h), i386
_X32 = 0x40000000
_IOCTL = {0xC000003E: (16, _X32 + 514), 0x40000003: (54,)}

_DEVICE = os.makedev(10, 232)  # MISC_MAJOR, KVM_MINOR: /dev/kvm under whatever name
_VM = "anon_inode:kvm-vm"
_VCPU = "anon_inode:kvm-vcpu"  # on newer kernels with ":0" and so on behind it

_ON = {
    "KVM_GET_API_VERSION": None,
    "KVM_CREATE_VM": None,
    "KVM_CREATE_VCPU": _VM,
    "KVM_RUN": _VCPU,
}
_NAMES = {kvm.REQUESTS[name]: name for name in _ON}

# What the kernel has at the exit of a call that it will make again, or not, after a signal (linux/errno.h).
_RESTARTS = {512: "ERESTARTSYS", 513: "ERESTARTNOINTR", 514: "ERESTARTNOHAND", 516: "ERESTART_RESTARTBLOCK"}


def knows(info: ptrace_syscall_info) -> bool:
    """Whether the system call's ABI is one of those above."""
    return info.arch in _IOCTL


def recognise(tid: int, info: ptrace_syscall_info) -> tuple[str, int, int] | None:
    """Name, request and argument of the ioctl of interest that the thread `tid` is about to make; else None."""
    words: Sequence[int] = info.words
    if words[0] not in _IOCTL.get(info.arch, ()):
        return None
    request = words[2] & 0xFFFFFFFF  # the kernel takes an unsigned int
    name = _NAMES.get(request)
    if name is None or not _is_on(f"/proc/{tid}/fd/{words[1] & 0xFFFFFFFF}", _ON[name]):
        return None
    return name, request, words[3]


def _is_on(path: str, link: str | None) -> bool:
    """Whether a descriptor is the device, or the anonymous inode with this name."""
    try:
        if link is None:
            return os.stat(path).st_rdev == _DEVICE
        name = os.readlink(path)
    except OSError:
        return False
    return name == link or name.startswith(f"{link}:")


def answer(info: ptrace_syscall_info) -> Answer:
    """What the call at whose exit a thread stands gave."""
    value = info.words[0]
    if value >= 1 << 63:
        value -= 1 << 64
    if info.words[1] & 0xFF:
        return {"error": errno.errorcode.get(-value) or _RESTARTS.get(-value, str(-value))}
    return int(value)
