"""Other processes that have something to do with KVM."""

from __future__ import annotations

import os
from collections.abc import Collection

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.sysroot import Sysroot

if TYPE_CHECKING:
    from kvmprobe.model.evidence import VmUser


_VM_LINK = "anon_inode:kvm-vm"  # kvm_dev_ioctl_create_vm() in virt/kvm/kvm_main.c


def comm(root: Sysroot, pid: int) -> str | None:
    """The name of a process, None when it is gone."""
    return root.text_or_none(f"/proc/{pid}/comm")


def vms_of(root: Sysroot, pid: int) -> int:
    """How many VMs a process holds, as far as this user may look into /proc/PID/fd."""
    folder = f"/proc/{pid}/fd"
    return sum(_link(root.path(f"{folder}/{fd}")) == _VM_LINK for fd in root.listdir(folder))


def vm_users(root: Sysroot, ours: Collection[int] = ()) -> list[VmUser]:
    """Processes other than this one and `ours` that hold VMs."""
    users: list[VmUser] = []
    for name in root.listdir("/proc"):
        if not name.isdigit() or int(name) in (os.getpid(), *ours):
            continue
        vms = vms_of(root, int(name))
        if vms:
            users.append({"pid": int(name), "comm": comm(root, int(name)), "vms": vms})
    return users


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None
