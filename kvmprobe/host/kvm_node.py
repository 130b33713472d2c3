"""KVM's device node: type, number, mode, owner, and whether a driver is registered for it."""

from __future__ import annotations

import os
import stat

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.sysroot import Sysroot

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Device

_TYPES = {stat.S_IFCHR: "char", stat.S_IFBLK: "block", stat.S_IFREG: "file", stat.S_IFDIR: "folder"}
_SYSFS = "/sys/class/misc/kvm"


def read_node(root: Sysroot, node: str) -> Device:
    """Return the evidence about the node without opening it: `opened` is None.

    `registered` is None where /sys/class/misc is not there, `type` where the node is not.
    """
    device: Device = {
        "path": node,
        # The node can be there without a driver: systemd-tmpfiles makes it at boot, and opening it loads kvm.ko.
        "registered": root.exists(_SYSFS) if root.list_folder("/sys/class/misc") else None,
        "type": None,
        "number": None,
        "mode": None,
        "owner": None,
        "group": None,
        "opened": None,
    }
    try:
        status = root.stat(node)
    except OSError:
        return device  # Opening it answers with the same error, which is then recorded.
    device["type"] = _TYPES.get(stat.S_IFMT(status.st_mode), "other")
    if device["type"] in ("char", "block"):
        device["number"] = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    device["mode"] = f"{stat.S_IMODE(status.st_mode):04o}"
    device["owner"], device["group"] = _owner_names(status.st_uid, status.st_gid)
    return device


def _owner_names(uid: int, gid: int) -> tuple[str, str]:
    """Return the names of a user and a group, their numbers where they have no name."""
    import grp
    import pwd

    try:
        owner = pwd.getpwuid(uid).pw_name
    except KeyError:
        owner = str(uid)
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = str(gid)
    return owner, group
