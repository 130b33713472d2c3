"""Other processes, as /proc shows them: their state, and the VMs they have open."""

from __future__ import annotations

import os
from collections.abc import Collection

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.kvm import INODES, KVM_DEVICE, VM_INODE
from kvmprobe.host.sysroot import Sysroot

if TYPE_CHECKING:
    from kvmprobe.model.evidence import KvmUser, VmUser


def process_name(root: Sysroot, pid: int) -> str | None:
    """Return the name of a process (/proc/PID/comm), None where it is gone."""
    return root.read_text_or_none(f"/proc/{pid}/comm")


def status_fields(root: Sysroot, pid: int | str) -> dict[str, str]:
    """Return the fields of /proc/PID/status by name ("Tgid", "State", "TracerPid", …). Raises OSError.

    `pid`: of a process or a thread, or "self".
    """
    lines = root.read_text(f"/proc/{pid}/status").split("\n")
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def status_field(root: Sysroot, pid: int, name: str) -> str | None:
    """Return one field of /proc/PID/status, None where the process is gone or has no such field."""
    try:
        return status_fields(root, pid).get(name)
    except OSError:
        return None


def count_vms(root: Sysroot, pid: int) -> int:
    """Return how many VMs a process has open, as far as this user may read /proc/PID/fd (else 0)."""
    folder = f"/proc/{pid}/fd"
    return sum(_link_target(root, f"{folder}/{fd}") == VM_INODE for fd in root.list_folder(folder))


def vm_users(root: Sysroot, own_pids: Collection[int] = ()) -> list[VmUser]:
    """Return the processes that have VMs open, without this process and `own_pids`."""
    users: list[VmUser] = []
    for pid in _other_pids(root, own_pids):
        vms = count_vms(root, pid)
        if vms:
            users.append({"pid": pid, "comm": process_name(root, pid), "vms": vms})
    return users


def kvm_users(root: Sysroot, own_pids: Collection[int] = ()) -> list[KvmUser]:
    """Return the processes that have /dev/kvm, a VM or a vCPU open, without this process and `own_pids`.

    Only those whose files this user may see.
    """
    return [
        {"pid": pid, "comm": process_name(root, pid)}
        for pid in _other_pids(root, own_pids)
        if any(_is_kvms(root, f"/proc/{pid}/fd/{fd}") for fd in root.list_folder(f"/proc/{pid}/fd"))
    ]


def _other_pids(root: Sysroot, own_pids: Collection[int]) -> list[int]:
    numbers = (int(name) for name in root.list_folder("/proc") if name.isascii() and name.isdigit())
    return [pid for pid in numbers if pid not in (os.getpid(), *own_pids)]


def _is_kvms(root: Sysroot, name: str) -> bool:
    """Whether an open file is /dev/kvm, under whatever name, or one of those that KVM's ioctls open."""
    target = _link_target(root, name)
    if target is None or target.startswith(INODES):
        return target is not None
    try:
        return target.startswith("/") and root.stat(name).st_rdev == KVM_DEVICE
    except OSError:
        return False


def _link_target(root: Sysroot, name: str) -> str | None:
    try:
        return root.read_link(name)
    except OSError:
        return None
