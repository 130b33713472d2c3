"""The host suspends and resumes while VMs live. Each CPU must come back with SVME and its own VM_HSAVE_PA.

The kernel's test mode "core" does all of a suspend but the last step: it freezes processes, suspends devices, switches
all CPUs but one off, has KVM switch SVM off on that one, waits some seconds, and undoes all of that by itself
(Documentation/power/basic-pm-debugging.rst; suspend_enter() in kernel/power/suspend.c; kvm_suspend() and kvm_resume()
in virt/kvm/kvm_main.c). Without the test mode nothing is suspended.
"""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.soak.cycle import check_after
from kvmprobe.collect.soak.open_msrs import OpenMsrs
from kvmprobe.host.revert_child import RevertChild
from kvmprobe.host.sysroot import Sysroot, write_setting

if TYPE_CHECKING:
    from typing import Any

_TEST_MODE, _SLEEP_KIND, _STATE = "/sys/power/pm_test", "/sys/power/mem_sleep", "/sys/power/state"
_CORE = "core"
_IDLE = "s2idle"  # It leaves the CPUs on, so that KVM has nothing to do. The kernel refuses to test it with "core".
_MEMORY = "mem"
_NEEDS_HOST = ("9p",)  # of virtio: the driver has no freeze() and restore(), so the filesystem hangs afterwards


class SuspendTest:
    """Suspends the host in the kernel's test mode. The mode is as before after exit, however kvmprobe ends.

    `done`: how often. `limit`: why the host cannot be suspended in this way, or could not once; None where it can.
    """

    def __init__(self, root: Sysroot, msrs: OpenMsrs) -> None:
        self._root = root
        self._msrs = msrs
        self._reads_registers = msrs.readable
        self._first = msrs.read() if msrs.readable else {}
        self._before: dict[str, str] = {}  # by file, its value on entry
        self._child: RevertChild | None = None
        self.limit: str | None = None
        self.done = 0

    def __enter__(self) -> SuspendTest:
        self.limit = suspend_limit(self._root)
        if self.limit is None:
            self._before[_TEST_MODE] = _chosen(self._root, _TEST_MODE)
            if _chosen(self._root, _SLEEP_KIND) == _IDLE:
                self._before[_SLEEP_KIND] = _IDLE
            self._child = RevertChild(self._set, self._reset)
            refused: str | None = self._child.changed
            self.limit = refused or self._not_in_test_mode()
        return self

    def __exit__(self, *_: object) -> None:
        if self._child:
            self._child.revert()

    def run(self) -> None:
        """Suspend and resume once, while VMs live. Raises CycleFailed."""
        self.limit = self.limit or self._not_in_test_mode()
        if self.limit:
            return
        self._msrs.close()  # An open device would belong to the CPU before it went offline.
        error = write_setting(self._root.path(_STATE), _MEMORY)
        if error:
            self.limit = f"the host did not suspend: writing {_MEMORY} to {_STATE} failed: {error}; see 'dmesg'"
            self._msrs.open()
            return
        self.done += 1
        if self._reads_registers:
            check_after("the host resumed", self._msrs, self._first)

    def _set(self) -> str | None:
        """In the child. Return why the test mode could not be set."""
        wanted = {_TEST_MODE: _CORE}
        if _SLEEP_KIND in self._before:
            wanted[_SLEEP_KIND] = next(kind for kind in _words(self._root, _SLEEP_KIND) if kind != _IDLE)
        for name, value in wanted.items():
            error = write_setting(self._root.path(name), value)
            if error:
                return f"{value} cannot be written to {name}: {error}"
        return None

    def _reset(self, _: Any) -> None:
        """In the child."""
        for name, value in self._before.items():
            write_setting(self._root.path(name), value)

    def _not_in_test_mode(self) -> str | None:
        """Why suspending now would not be a test; None where it is one. Another program may change the mode."""
        mode = _chosen(self._root, _TEST_MODE)
        return None if mode == _CORE else f"{_TEST_MODE} is '{mode}' in place of '{_CORE}': another program changed it"


def suspend_limit(root: Sysroot) -> str | None:
    """Return why this host cannot be suspended in the kernel's test mode; None where it can."""
    if _CORE not in _words(root, _TEST_MODE):
        return f"this kernel has no test mode for suspend: no '{_CORE}' in {_TEST_MODE} (CONFIG_PM_DEBUG)"
    if _MEMORY not in _words(root, _STATE):
        return f"this host cannot suspend to memory: no '{_MEMORY}' in {_STATE}"
    kinds = _words(root, _SLEEP_KIND)
    if kinds and all(kind == _IDLE for kind in kinds):
        return f"this host suspends to idle only ({_SLEEP_KIND}), which leaves the CPUs on"
    for line in (root.read_text_or_none("/proc/self/mounts") or "").split("\n"):
        fields = line.split(" ")
        if len(fields) > 2 and fields[2] in _NEEDS_HOST:
            return f"{fields[1]} is a filesystem of type {fields[2]}, which does not survive suspend"
    return None


def _words(root: Sysroot, name: str) -> list[str]:
    return [word.strip("[]") for word in (root.read_text_or_none(name) or "").split()]


def _chosen(root: Sysroot, name: str) -> str:
    """The value that is in use: "none [core] processors"."""
    words = (root.read_text_or_none(name) or "").split()
    return next((word.strip("[]") for word in words if word.startswith("[")), "")
