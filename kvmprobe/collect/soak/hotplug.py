"""CPUs go offline and come online again while a VM lives (kernel: kvm_offline_cpu(), kvm_online_cpu() in
virt/kvm/kvm_main.c): each must come back with SVME and a VM_HSAVE_PA of its own."""

from __future__ import annotations

import os

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.soak import open_msrs
from kvmprobe.collect.soak.cycle import Failed, reopened
from kvmprobe.collect.soak.open_msrs import Registers
from kvmprobe.host import cpus
from kvmprobe.host.sysroot import Sysroot, close
from kvmprobe.host.undoing_child import UndoingChild
from kvmprobe.model.cpu_lists import cpu_names
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from types import TracebackType


class Hotplug:
    """The CPUs that are online on entry are online again after exit, however kvmprobe ends.

    `limits` says which could not be switched, and why.
    """

    def __init__(self, root: Sysroot, read: Registers) -> None:
        self._root = root
        self._registers = read
        self._watches = read.readable
        self._online = cpus.online(root)
        self._guard: UndoingChild | None = None
        self.limits: dict[int, str] = {}
        self.done = 0

    def __enter__(self) -> Hotplug:
        self._guard = UndoingChild(lambda: None, lambda _: [self._switch(cpu, True) for cpu in self._online])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._guard:
            self._guard.release()

    def run(self) -> None:
        """Each CPU but the first, once; a VM is alive. Raises Failed."""
        for cpu in self._online[1:]:
            if cpu not in self.limits:
                self._one(cpu)

    def _one(self, cpu: int) -> None:
        self._registers.close()  # an open device would be of the CPU before it went
        error = self._switch(cpu, False)
        if error:
            self.limits[cpu] = f"cpu{cpu} cannot be switched off: {error}"
            self._registers.open()
            return
        self._check(f"cpu{cpu} went offline")
        error = self._switch(cpu, True)
        if error:
            self._registers.open()
            raise Failed(f"cpu{cpu} did not come online again while a VM was there: {error}", "svme-not-set")
        self._check(f"cpu{cpu} came online again")
        self.done += 1

    def _switch(self, cpu: int, on: bool) -> str | None:
        """None where it is done, or was so already; else why not."""
        path = self._root.path(f"/sys/devices/system/cpu/cpu{cpu}/online")
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, b"1" if on else b"0")
            finally:
                close(fd)
        except OSError as error:
            return failure(error)["error"]
        return None

    def _check(self, what: str) -> None:
        if not self._watches:
            return
        raw = reopened(self._registers)
        clear = open_msrs.clear(raw)
        if clear:
            raise Failed(f"{what} while a VM was there: EFER.SVME is 0 on {cpu_names(clear)}", "svme-not-set")
        pages = open_msrs.pages(raw)
        without = [cpu for cpu, page in pages.items() if not page]
        if without or len(set(pages.values())) < len(pages):
            told = f"is 0 on {cpu_names(without)}" if without else "is the same on two CPUs"
            raise Failed(f"{what} while a VM was there: VM_HSAVE_PA {told}", "svme-not-set")
