"""What decides whether this process may use /dev/kvm and the registers: its user, its groups, its sandbox, the mounts.

Sources: proc(5), capabilities(7), user_namespaces(7), Documentation/security/lsm.rst.
"""

from __future__ import annotations

import re

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.processes import status_fields
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Failure, Mount, Reading, Rights

_INITIAL_PIDS = "pid:[4026531836]"  # PROC_PID_INIT_INO of include/linux/proc_ns.h, on every machine
_ALL_IDS = ["0", "0", "4294967295"]  # /proc/self/uid_map outside of user namespaces


def read_rights(root: Sysroot, with_mounts: bool) -> Rights:
    """Return the rights of this process. `with_mounts`: also what is mounted on /dev, for a /dev/kvm that did not open.

    Hosts with many containers have long lists of mounts.
    """
    try:
        fields = status_fields(root, "self")
    except OSError as error:
        return _of(root, failure(error), {}, with_mounts)
    return _of(root, _groups(root, fields), fields, with_mounts)


def _of(root: Sysroot, groups: list[str] | Failure, fields: dict[str, str], with_mounts: bool) -> Rights:
    unread: Reading = groups if isinstance(groups, dict) else None
    return {
        "groups": groups,
        "capabilities": fields.get("CapEff", unread),
        "seccomp": fields.get("Seccomp", unread),
        "user_namespace": _user_namespace(root),
        "pid_namespace": _pid_namespace(root),
        "lsm": root.read_value("/sys/kernel/security/lsm"),
        "dev_mounts": _dev_mounts(root) if with_mounts else None,
    }


def _groups(root: Sysroot, fields: dict[str, str]) -> list[str]:
    """The groups by name as /etc/group has them; not by the name service, which may ask a server."""
    entries = (line.split(":") for line in (root.read_text_or_none("/etc/group") or "").split("\n"))
    names = {entry[2]: entry[0] for entry in entries if len(entry) > 2}
    effective = fields.get("Gid", "").split()[1:2]
    numbers = dict.fromkeys([*effective, *fields.get("Groups", "").split()])
    return [names.get(number, number) for number in numbers]


def _user_namespace(root: Sysroot) -> bool | Failure:
    try:
        return root.read_text("/proc/self/uid_map").split() != _ALL_IDS
    except OSError as error:
        return failure(error)


def _pid_namespace(root: Sysroot) -> bool | Failure:
    try:
        return root.read_link("/proc/self/ns/pid") != _INITIAL_PIDS
    except OSError as error:
        return failure(error)


def _dev_mounts(root: Sysroot) -> list[Mount] | Failure:
    """What is mounted on /dev and on /dev/kvm, in order (Documentation/filesystems/proc.rst, 3.5)."""
    try:
        lines = root.read_text("/proc/self/mountinfo").split("\n")
    except OSError as error:
        return failure(error)
    mounts: list[Mount] = []
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        path = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields[4]) if len(fields) > 5 else ""
        if path in ("/dev", "/dev/kvm"):
            mounts.append({"path": path, "type": after.split(" ")[0], "options": fields[5]})
    return mounts
