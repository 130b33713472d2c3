"""KVM's device node and uevents through pyudev. No other module uses pyudev.

pyudev is optional. Where it or libudev is missing, the node is /dev/kvm and the uevents are unknown, with the reason.
"""

from __future__ import annotations

import os

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.processes import process_name
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.values import as_count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Any

    import pyudev

    from kvmprobe.model.evidence import Uevent, Uevents

_USUAL_NODE = "/dev/kvm"

# How many uevents are read at once. Other processes may create VMs faster than their uevents can be read; the verdict
# needs to know only that there were some.
MOST_EVENTS = 100
_U64 = (1 << 64) - 1  # the kernel counts VMs in unsigned long long
_MESSAGE_BYTES = 8192
# The default (net.core.rmem_default) has room for some 150 messages, which a coldplug sends in a moment.
_RECEIVE_BUFFER_BYTES = 16 << 20


class Udev:
    """A connection to libudev. `error` is None, or why there is no connection or no uevents.

    `own_pids`: the processes, besides this one, whose VMs belong to the probe. `version`: "pyudev 0.24.4".
    """

    def __init__(self, root: Sysroot) -> None:
        self.version: str | None = None
        self.error: str | None = None
        self.own_pids: set[int] = set()
        self._context: pyudev.Context | None = None
        self._monitor: pyudev.Monitor | None = None
        self._uevents: list[Uevent] = []
        if not root.is_real:
            self.error = "not used with --sysroot"
            return
        try:
            _import_pyudev()
            import pyudev

            self._context = pyudev.Context()
            self.version = f"pyudev {pyudev.__version__}"
        except ImportError as error:
            self.error = f"pyudev cannot be used: {error}"
        except Exception as error:  # libudev behind ctypes: whatever it raises, the probe goes on without it.
            self.error = f"pyudev cannot be used: {type(error).__name__}: {error}"

    def kvm_node(self) -> str:
        """Return the name of KVM's device node."""
        if self._context is not None:
            import pyudev

            try:
                return pyudev.Devices.from_name(self._context, "misc", "kvm").device_node or _USUAL_NODE
            except (pyudev.DeviceNotFoundError, OSError, ValueError):
                pass
        return _USUAL_NODE

    def start_monitor(self) -> None:
        """Start to receive uevents, from the kernel itself: udevd is not needed."""
        if self._context is None:
            return
        import pyudev

        try:
            self._monitor = pyudev.Monitor.from_netlink(self._context, source="kernel")
            self._monitor.filter_by("misc")
            self._monitor.start()
        except Exception as error:  # See __init__.
            self._monitor = None
            self._cannot_receive(error)
            return
        try:
            self._monitor.set_receive_buffer_size(_RECEIVE_BUFFER_BYTES)
        except OSError:
            pass  # It needs CAP_NET_ADMIN. Where messages are lost, collect_uevents() notices.

    def _cannot_receive(self, error: Exception) -> None:
        self.error = f"the kernel's uevents cannot be received: {type(error).__name__}: {error}"

    def collect_uevents(self, root: Sysroot, phase: str) -> None:
        """Add KVM's uevents that have arrived since the last call to the evidence, under the name `phase`.

        The kernel sends a uevent before the system call that causes it returns.
        """
        if self._monitor is None:
            return
        for _ in range(MOST_EVENTS):
            try:
                device = self._monitor.poll(timeout=0)
            except Exception as error:  # See __init__. ENOBUFS: messages were lost.
                self._cannot_receive(error)
                break
            if device is None:
                break
            if device.subsystem == "misc" and device.sys_name == "kvm" and "EVENT" in device.properties:
                self._uevents.append(_uevent(root, device.properties, phase, self.own_pids))
                if len(self._uevents) > 2 * MOST_EVENTS:  # Of a long watch the first and the last are kept.
                    del self._uevents[MOST_EVENTS]

    # For many cycles: the messages are read without libudev, which is faster.

    def discard_uevents(self) -> None:
        """Drop what has arrived, unread."""
        for _ in self._messages():
            pass

    def read_uevents(self, root: Sysroot, phase: str) -> list[Uevent]:
        """Return KVM's uevents that have arrived since the last call, under the name `phase`."""
        found = []
        for message in self._messages():
            properties = dict(part.partition("=")[::2] for part in message.decode("utf-8", "replace").split("\0"))
            if properties.get("SUBSYSTEM") == "misc" and properties.get("DEVNAME") == "kvm" and "EVENT" in properties:
                found.append(_uevent(root, properties, phase, self.own_pids))
        return found

    def set_evidence(self, uevents: list[Uevent]) -> None:
        """Make `uevents` the evidence, in place of those that were collected."""
        self._uevents = uevents

    def _messages(self) -> Iterator[bytes]:
        """The messages of the kernel: "change@/devices/virtual/misc/kvm", then NAME=VALUE, separated by zeros."""
        if self._monitor is None:
            return
        for _ in range(100 * MOST_EVENTS):
            try:
                yield os.read(self._monitor.fileno(), _MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                pass  # ENOBUFS: messages were lost, others follow.

    def evidence(self) -> Uevents:
        """Return the uevents that were collected, with their source, or why there are none."""
        source = None if self._monitor is None or self.error else f"{self.version}, kernel monitor"
        return {"source": source, "error": self.error, "events": self._uevents}


def _import_pyudev() -> None:
    """Raises ImportError."""
    from kvmprobe.host.stand_ins import FIND_LIBRARY, OF_PYUDEV, StandIns

    try:
        with StandIns(OF_PYUDEV):
            import pyudev
    except ImportError:  # This pyudev imports more of them.
        with StandIns(FIND_LIBRARY):
            import pyudev  # noqa: F401


def _uevent(root: Sysroot, properties: Any, phase: str, own_pids: Collection[int]) -> Uevent:
    """One uevent from its properties: kvm_uevent_notify_change() in virt/kvm/kvm_main.c."""

    pid = as_count(properties.get("PID", ""))
    return {
        "event": str(properties["EVENT"]),
        "pid": pid,
        "comm": None if pid is None else process_name(root, pid),
        "ours": pid == os.getpid() or pid in own_pids,
        "count": as_count(properties.get("COUNT", ""), _U64),
        "created": as_count(properties.get("CREATED", ""), _U64),
        "phase": phase,
    }
