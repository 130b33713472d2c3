"""What a VM takes: references to kvm_amd, and descriptors of this process. All are returned with the last VM."""

from __future__ import annotations

import os
import time

from kvmprobe import TYPE_CHECKING
from kvmprobe.host import kvm, processes
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.values import as_count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from kvmprobe.model.evidence import LeftBehind

_REFERENCES = "/sys/module/kvm_amd/refcnt"
_MOST_REFERENCES = 9_999_999_999
_SETTLE_S = 0.2  # Another process may have /dev/kvm open for a moment, for instance to ask for its API version.
_PAUSE_S = 0.01
_SEARCHES = 3  # A process that opens /dev/kvm behind one search is found by the next.


class VmResources:
    """Reads what is there before a VM; left_behind() compares it with what is there after it."""

    def __init__(self, root: Sysroot) -> None:
        self._root = root
        self._references = references(root)
        self._descriptors = set(own_descriptors())

    def left_behind(self, own_pids: Collection[int] = ()) -> LeftBehind:
        """Return what is left after the VM and /dev/kvm were closed. `own_pids`: see processes.kvm_users().

        Who else uses KVM is searched for only where kvm_amd has more references than before.
        """
        before, after = self._references, references(self._root)
        ends = time.monotonic() + _SETTLE_S
        while _has_more(before, after) and time.monotonic() < ends:
            time.sleep(_PAUSE_S)
            after = references(self._root)
        users = None
        for _ in range(_SEARCHES):
            if users or not _has_more(before, after):
                break
            users = processes.kvm_users(self._root, own_pids)
            after = references(self._root)
        return {
            "references_before": before,
            "references_after": after,
            "users": users,
            "descriptors": kvm_descriptors(sorted(set(own_descriptors()) - self._descriptors, key=int)),
        }


def references(root: Sysroot) -> int | None:
    """Return how many references kvm_amd has, by /sys/module/kvm_amd/refcnt; None where there is no such number.

    A built-in module has none. The kernel shows a negative number where more references were dropped than taken
    (module_refcount() in kernel/module/main.c).
    """
    text = root.read_text_or_none(_REFERENCES) or ""
    is_negative = text.startswith("-")
    count = as_count(text[1:] if is_negative else text, _MOST_REFERENCES)
    return -count if count and is_negative else count


def own_descriptors() -> list[str]:
    """Return the numbers of the descriptors of this process, with that which reads them; [] without /proc."""
    try:
        return os.listdir("/proc/self/fd")
    except OSError:
        return []


def kvm_descriptors(descriptors: Iterable[str]) -> list[str]:
    """Return what those descriptors of this process refer to that KVM's ioctls opened: ["anon_inode:kvm-vm"]."""
    targets = map(_target, descriptors)
    return [target for target in targets if target.startswith(kvm.INODES)]


def _target(fd: str) -> str:
    """What a descriptor of this process refers to: "anon_inode:kvm-vm"; "" where it is closed."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


def _has_more(before: int | None, after: int | None) -> bool:
    return before is not None and after is not None and after > before
