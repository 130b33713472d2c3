"""CPUs go offline and online while a VM lives. Each must come back with SVME and its own VM_HSAVE_PA.

Kernel: kvm_offline_cpu() and kvm_online_cpu() in virt/kvm/kvm_main.c.
"""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.soak.cycle import CycleFailed, check_after
from kvmprobe.collect.soak.open_msrs import OpenMsrs
from kvmprobe.host import cpus
from kvmprobe.host.revert_child import RevertChild
from kvmprobe.host.sysroot import Sysroot, write_setting

if TYPE_CHECKING:
    from typing import Any


class CpuHotplug:
    """Switches CPUs. Those that are online on entry are online after exit, however kvmprobe ends.

    `done`: how many CPUs went offline and online. `limits`: by CPU, why it could not be switched.
    """

    def __init__(self, root: Sysroot, msrs: OpenMsrs) -> None:
        self._root = root
        self._msrs = msrs
        self._reads_registers = msrs.readable
        self._first = msrs.read() if msrs.readable else {}
        self._online = cpus.online_cpus(root)
        self._child: RevertChild | None = None
        self.limits: dict[int, str] = {}
        self.done = 0

    def __enter__(self) -> CpuHotplug:
        self._child = RevertChild(lambda: None, self._switch_all_on)
        return self

    def __exit__(self, *_: object) -> None:
        if self._child:
            self._child.revert()

    def run(self) -> None:
        """Switch each CPU but the first off and on once, while a VM lives. Raises CycleFailed."""
        for cpu in self._online[1:]:
            if cpu not in self.limits:
                self._switch_off_and_on(cpu)

    def _switch_off_and_on(self, cpu: int) -> None:
        self._msrs.close()  # An open device would belong to the CPU before it went offline.
        error = self._switch(cpu, False)
        if error:
            self.limits[cpu] = f"cpu{cpu} cannot be switched off: {error}"
            self._msrs.open()
            return
        self._check(f"cpu{cpu} went offline")
        error = self._switch(cpu, True)
        if error:
            self._msrs.open()
            raise CycleFailed(f"cpu{cpu} did not come online again while a VM was alive: {error}", "svme-not-set")
        self._check(f"cpu{cpu} came online again")
        self.done += 1

    def _switch_all_on(self, _: Any) -> None:
        """In the child."""
        for cpu in self._online:
            self._switch(cpu, True)

    def _switch(self, cpu: int, online: bool) -> str | None:
        """Switch a CPU; None where it is in that state now, else the errno name."""
        path = self._root.path(f"/sys/devices/system/cpu/cpu{cpu}/online")
        return write_setting(path, "1" if online else "0")

    def _check(self, event: str) -> None:
        if self._reads_registers:
            check_after(event, self._msrs, self._first)
