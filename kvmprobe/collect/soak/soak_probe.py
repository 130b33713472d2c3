"""A probe, and then its cycle many times, with what else was asked for between."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.soak import killed_child
from kvmprobe.collect.soak.cycle import Cycle, Failed
from kvmprobe.collect.soak.histogram import Times
from kvmprobe.collect.soak.hotplug import Hotplug
from kvmprobe.collect.soak.open_msrs import Registers
from kvmprobe.collect.vm_probe import Probe, svme
from kvmprobe.host import cpus, guest, kvm, modules, processes
from kvmprobe.host.kvm_amd_reload import KVM_AMD, Unloaded
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.cpu_lists import cpu_names
from kvmprobe.model.errors import Problem

if TYPE_CHECKING:
    from typing import Callable

    from kvmprobe.model.evidence import MoreEvidence, SoakFailure, Uevent

_MOST_FAILURES = 100  # that are kept


class Plan:
    """What to do: `cycles` or `seconds` (the other is None), `vms` at once, the `steps` beside, whether to go on after
    a failure, and whom to tell about progress."""

    def __init__(
        self,
        cycles: int | None,
        seconds: float | None,
        vms: int,
        steps: tuple[str, ...],
        keep_going: bool,
        progress: Callable[[SoakProbe], None],
    ) -> None:
        self.cycles = cycles
        self.seconds = seconds
        self.vms = vms
        self.steps = steps
        self.keep_going = keep_going
        self.progress = progress


class SoakProbe(Probe):
    """The evidence is that of the first cycle, a whole probe, or of the first one that failed."""

    def __init__(self, root: Sysroot, plan: Plan) -> None:
        super().__init__(root)
        self.plan = plan
        self.cycles = 0
        self.seconds = 0.0
        self.failed = 0
        self.interfered = 0
        self.failures: list[SoakFailure] = []
        self._steps = dict.fromkeys(plan.steps, 0)
        self._limits: list[str] = []
        self._may_reload = "reload" in plan.steps
        self._memory = [0, 0]
        self._pids: list[int | None] = [os.getpid()]
        self._child: int | None = None
        self._hears = False
        self._last_interfered = 0
        self._cycle: Cycle | None = None

    def run(self, at_load: bool) -> None:
        super().run(at_load)
        if self.ioctls["KVM_CREATE_VM"] != 0:
            return  # the verdict says why
        own = self.udev.evidence()["events"]
        made = [event["pid"] for event in own if event["event"] == "create"]
        if len(made) == 1:  # in a container the kernel's PID of this process is another
            self._pids += made
        self._hears = self.udev.evidence()["source"] is not None
        with ExitStack() as stack:
            stack.enter_context(guest.Alarm())
            read = stack.enter_context(Registers(self.root))
            if not read.readable:
                self._limits.append("the registers are not readable, so only KVM's answers were checked")
            elif not all(svme(registers["EFER"]) for registers in self.snapshots[1]["cpus"].values()):
                return  # no guest may run, and the verdict of the first VM says why
            kept_from = set(cpus.online(self.root)) - os.sched_getaffinity(0)
            if kept_from:
                self._limits.append(f"the guest may not run on {cpu_names(kept_from)} (affinity, cpuset)")
            hotplug = stack.enter_context(Hotplug(self.root, read)) if "hotplug" in self._steps else None
            self._soak(read, hotplug, at_load)
        if hotplug:
            self._limits += hotplug.limits.values()

    def _soak(self, read: Registers, hotplug: Hotplug | None, at_load: bool) -> None:
        path = self.root.path(self.device["path"])
        cycle = self._cycle = Cycle(self.root, kvm.Kvm(path), read, self.udev, at_load, self.plan.vms)
        try:
            cycle.during = hotplug.run if hotplug else None
            started = time.monotonic()
            self._memory[0] = _resident_kb()
            while self._is_content() and self._has_more():
                self.cycles += 1
                self._try(cycle, "cycle", cycle.run)
                if hotplug:
                    self._steps["hotplug"] = hotplug.done
                if "kill" in self._steps and self._is_content():
                    self._steps["kill"] += 1
                    self._try(cycle, "kill", lambda: killed_child.run(path, read, cycle, self._born))
                if self._may_reload and self._is_content():
                    cycle.device.close()
                    self._try(cycle, "reload", lambda: self._reload(cycle))
                    if self._may_reload and not modules.is_present(self.root, KVM_AMD):
                        break  # which is the failure that was kept
                    if not self._try(cycle, "reload", lambda: cycle.open(path)):
                        break
                self.seconds = time.monotonic() - started
                self.plan.progress(self)
            self._memory[1] = _resident_kb()
        finally:
            cycle.device.close()

    def _is_content(self) -> bool:
        return self.plan.keep_going or not self.failed

    def _has_more(self) -> bool:
        if self.plan.cycles is not None:
            return self.cycles < self.plan.cycles
        return self.plan.seconds is None or self.seconds < self.plan.seconds

    def _try(self, cycle: Cycle, step: str, do: Callable[[], None]) -> bool:
        """False where `do` raised Failed, which is then kept as it should be."""
        try:
            do()
            return True
        except Failed as failed:
            events = cycle.events()
            if failed.reason != "kvm-amd-load-failed" and self._others(cycle, events):
                self.interfered += self._last_interfered != self.cycles
                self._last_interfered = self.cycles
                return False
            self.failed += 1
            if not self.failures:
                self._keep(cycle, events)
            if len(self.failures) < _MOST_FAILURES:
                self.failures.append({"cycle": self.cycles, "step": step, "what": failed.what, "reason": failed.reason})
            return False

    def _born(self, pid: int) -> None:
        self._child = pid

    def _others(self, cycle: Cycle, events: list[Uevent]) -> bool:
        """Whether VMs that are not ours were there, or may have been where no uevents tell."""
        if not self._hears and (cycle.began_held() or processes.vm_users(self.root)):
            return True
        return any(
            event["pid"] not in (*self._pids, self._child) or (event["count"] or 0) > self.plan.vms for event in events
        )

    def _keep(self, cycle: Cycle, events: list[Uevent]) -> None:
        """The failed cycle takes the place of the first one in the evidence."""
        if cycle.raw:
            self.snapshots = cycle.snapshots()
        self.guest = cycle.runs
        self.ioctls["KVM_CREATE_VM"] = cycle.created
        self.udev.replace(events)

    def _reload(self, cycle: Cycle) -> None:
        """Raises Failed. Where kvm_amd cannot be unloaded because it is used, that is said and not tried again."""
        try:
            with Unloaded(self.root) as unloaded:
                cycle.check_unloaded()
                answer = unloaded.load()[0]
                self._limits += [change for change in unloaded.changes() if change not in self._limits]
        except Problem as problem:
            self._limits.append(problem.message)
            self._may_reload = False
            return
        if not modules.is_present(self.root, KVM_AMD):
            raise Failed(
                f"kvm_amd could not be loaded again: {answer['output'] or answer['status']}", "kvm-amd-load-failed"
            )
        self._steps["reload"] += 1
        cycle.check_released("before")

    def more(self) -> MoreEvidence:
        cycle = self._cycle
        return {
            "soak": {
                "cycles": self.cycles,
                "wanted": self.plan.cycles,
                "seconds": round(self.seconds, 3),
                "vms": self.plan.vms,
                "steps": self._steps,
                "limits": self._limits,
                "interfered": self.interfered,
                "failed": self.failed,
                "failures": self.failures,
                "create": (cycle.create_times if cycle else Times()).percentiles(),
                "close": (cycle.close_times if cycle else Times()).percentiles(),
                "memory_kb": self._memory,
            }
        }


def _resident_kb() -> int:
    """Of this process, by /proc/self/statm."""
    pages = (Sysroot().text_or_none("/proc/self/statm") or "0 0").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") // 1024
