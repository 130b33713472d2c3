"""/dev/kvm's node and KVM's uevents, as udev's library tells them. pyudev is used here and nowhere else.

pyudev is a witness, not a condition: where it or libudev is missing, the node is looked up by its usual name, and
the uevents stay unknown with the reason.
"""

from __future__ import annotations

import os
import stat

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.processes import comm
from kvmprobe.host.sonames import BySoname
from kvmprobe.host.sysroot import Sysroot

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Any

    import pyudev

    from kvmprobe.model.evidence import Device, Uevent, Uevents

_TYPES = {stat.S_IFCHR: "char", stat.S_IFBLK: "block", stat.S_IFREG: "file", stat.S_IFDIR: "folder"}
_SYSFS = "/sys/class/misc/kvm"

# Others may make VMs quicker than their uevents can be read; what matters is that there were any.
MOST_EVENTS = 100  # taken at once


class Udev:
    """A connection to udev's library, or the reason why there is none (`missing`)."""

    def __init__(self, root: Sysroot) -> None:
        self.version: str | None = None
        self.missing: str | None = None
        self.ours: set[int] = set()  # whose VMs are the probe's, besides this process
        self._context: pyudev.Context | None = None
        self._monitor: pyudev.Monitor | None = None
        self._uevents: list[Uevent] = []
        if not root.is_real:
            self.missing = "not used with --sysroot"
            return
        try:
            with BySoname():
                import pyudev

            self._context = pyudev.Context()
            self.version = f"pyudev {pyudev.__version__}"
        except ImportError as error:
            self.missing = f"pyudev cannot be used: {error}"
        except Exception as error:  # a C library behind ctypes: whatever it does, it is one witness less
            self.missing = f"pyudev cannot be used: {type(error).__name__}: {error}"

    def node(self) -> str:
        """The name of KVM's device node."""
        if self._context is not None:
            import pyudev

            try:
                return pyudev.Devices.from_name(self._context, "misc", "kvm").device_node or "/dev/kvm"
            except (pyudev.DeviceNotFoundError, OSError, ValueError):
                pass
        return "/dev/kvm"

    def listen(self) -> None:
        """Starts to receive the kernel's own uevents (no udevd needed)."""
        if self._context is None:
            return
        import pyudev

        try:
            self._monitor = pyudev.Monitor.from_netlink(self._context, source="kernel")
            self._monitor.start()
        except Exception as error:  # see __init__
            self._monitor = None
            self.missing = f"the kernel's uevents cannot be received: {type(error).__name__}: {error}"

    def drain(self, root: Sysroot, phase: str) -> None:
        """Takes what has arrived since the last call; the kernel sends each before its system call returns."""
        if self._monitor is None:
            return
        for _ in range(MOST_EVENTS):
            try:
                device = self._monitor.poll(timeout=0)
            except Exception as error:  # see __init__; ENOBUFS says that messages were lost
                self.missing = f"the kernel's uevents cannot be received: {type(error).__name__}: {error}"
                break
            if device is None:
                break
            if device.subsystem == "misc" and device.sys_name == "kvm" and "EVENT" in device.properties:
                self._uevents.append(_uevent(root, device.properties, phase, self.ours))
                if len(self._uevents) > 2 * MOST_EVENTS:  # of a long watch the first and the last are kept
                    del self._uevents[MOST_EVENTS]

    def forget(self) -> None:
        """Throws away what has arrived, quicker than `drain` and without a look at it."""
        for _ in self._messages():
            pass

    def take(self, root: Sysroot, phase: str) -> list[Uevent]:
        """KVM's uevents that have arrived since `forget` or `drain`."""
        found = []
        for message in self._messages():
            properties = dict(part.partition("=")[::2] for part in message.decode("utf-8", "replace").split("\0"))
            if properties.get("SUBSYSTEM") == "misc" and properties.get("DEVNAME") == "kvm" and "EVENT" in properties:
                found.append(_uevent(root, properties, phase, self.ours))
        return found

    def replace(self, events: list[Uevent]) -> None:
        """What `take` gave is the evidence, in place of what `drain` took before."""
        self._uevents = events

    def _messages(self) -> Iterator[bytes]:
        """The kernel's messages as they are: "change@/devices/virtual/misc/kvm", NAME=VALUE and more, zeros between."""
        if self._monitor is None:
            return
        for _ in range(100 * MOST_EVENTS):
            try:
                yield os.read(self._monitor.fileno(), 8192)
            except BlockingIOError:
                return
            except OSError:
                pass  # ENOBUFS: some were lost, others follow

    def evidence(self) -> Uevents:
        source = None if self._monitor is None or self.missing else f"{self.version}, kernel monitor"
        return {"source": source, "error": self.missing, "events": self._uevents}


def _uevent(root: Sysroot, properties: Any, phase: str, ours: Collection[int]) -> Uevent:
    """kvm_uevent_notify_change() in virt/kvm/kvm_main.c: EVENT, PID, COUNT, CREATED."""

    def number(name: str) -> int | None:
        value = properties.get(name, "")
        return int(value) if value.isascii() and value.isdigit() else None

    pid = number("PID")
    return {
        "event": str(properties["EVENT"]),
        "pid": pid,
        "comm": None if pid is None else comm(root, pid),
        "ours": pid == os.getpid() or pid in ours,
        "count": number("COUNT"),
        "created": number("CREATED"),
        "phase": phase,
    }


def observe(root: Sysroot, node: str) -> Device:
    """The node's type, number, mode and owner, and whether a driver stands behind it."""
    device: Device = {
        "path": node,
        # A node can be there without KVM: systemd-tmpfiles makes it at boot, so that opening it loads kvm.ko.
        "registered": root.exists(_SYSFS) if root.listdir("/sys/class/misc") else None,
        "type": None,
        "number": None,
        "mode": None,
        "owner": None,
        "group": None,
        "opened": None,
    }
    try:
        status = os.stat(root.path(node))
    except OSError:
        return device  # opening it says why
    device["type"] = _TYPES.get(stat.S_IFMT(status.st_mode), "other")
    if device["type"] in ("char", "block"):
        device["number"] = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    device["mode"] = f"{stat.S_IMODE(status.st_mode):04o}"
    device["owner"], device["group"] = _names(status.st_uid, status.st_gid)
    return device


def _names(uid: int, gid: int) -> tuple[str, str]:
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
