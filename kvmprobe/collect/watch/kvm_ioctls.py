"""Which system calls are the KVM ioctls that are watched, in every ABI that a program can use on x86-64."""

from __future__ import annotations

import os

from kvmprobe import TYPE_CHECKING
from kvmprobe.host import kvm
from kvmprobe.model.values import errno_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvmprobe.collect.watch.ptrace_calls import ptrace_syscall_info
    from kvmprobe.model.evidence import Answer

# The number of ioctl by AUDIT_ARCH_… (linux/audit.h): x86_64 with x32 (asm/unistd_x32.h), i386.
_X32 = 0x40000000
_IOCTL_NUMBERS = {0xC000003E: (16, _X32 + 514), 0x40000003: (54,)}

# The watched requests, and the file that each is made on: /dev/kvm (None) or an anonymous inode.
_INODES = {
    "KVM_GET_API_VERSION": None,
    "KVM_CREATE_VM": None,
    "KVM_CREATE_VCPU": kvm.VM_INODE,
    "KVM_RUN": kvm.VCPU_INODE,
}
_NAMES = {kvm.REQUESTS[name]: name for name in _INODES}

# What the kernel has at the exit of a call that a signal interrupted and that it may restart (linux/errno.h).
_RESTARTS = {512: "ERESTARTSYS", 513: "ERESTARTNOINTR", 514: "ERESTARTNOHAND", 516: "ERESTART_RESTARTBLOCK"}


def is_known_abi(info: ptrace_syscall_info) -> bool:
    """Return whether the ABI of the system call is one of those above."""
    return info.arch in _IOCTL_NUMBERS


class KvmIoctl:
    """A watched ioctl: its name, and the descriptor, request and argument as the kernel takes them."""

    def __init__(self, name: str, fd: int, request: int, argument: int) -> None:
        self.name = name
        self.fd = fd
        self.request = request
        self.argument = argument


def recognize(tid: int, info: ptrace_syscall_info) -> KvmIoctl | None:
    """Return the watched ioctl that thread `tid` is about to make, else None.

    `info`: the system call at whose entry the thread stands.
    """
    words: Sequence[int] = info.words
    if words[0] not in _IOCTL_NUMBERS.get(info.arch, ()):
        return None
    request = words[2] & 0xFFFFFFFF  # The kernel reads an unsigned int.
    fd = words[1] & 0xFFFFFFFF
    name = _NAMES.get(request)
    if name is None or not _is_on(f"/proc/{tid}/fd/{fd}", _INODES[name]):
        return None
    return KvmIoctl(name, fd, request, words[3])


def _is_on(path: str, inode: str | None) -> bool:
    """Whether a descriptor (its name in /proc) is of /dev/kvm, by any name, or of this anonymous inode."""
    try:
        if inode is None:
            return os.stat(path).st_rdev == kvm.KVM_DEVICE
        target = os.readlink(path)
    except OSError:
        return False
    return target == inode or target.startswith(f"{inode}:")


def answer_of(info: ptrace_syscall_info) -> Answer:
    """Return the answer of the call at whose exit a thread stands: a number, or {"error": errno name}."""
    value = info.words[0]
    if value >= 1 << 63:
        value -= 1 << 64
    if info.words[1] & 0xFF:
        return {"error": errno_name(-value) or _RESTARTS.get(-value, str(-value))}
    # An int in the kernel's API. A larger one is no number that a report can have.
    return int(value) if abs(value) < 1 << 53 else {"error": hex(value & (1 << 64) - 1)}
