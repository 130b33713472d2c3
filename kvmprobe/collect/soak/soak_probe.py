"""A probe, then its cycle many times, with the steps that were asked for in between."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.soak.cpu_hotplug import CpuHotplug
from kvmprobe.collect.soak.cycle import Cycle, CycleFailed
from kvmprobe.collect.soak.killed_child import ChildKiller
from kvmprobe.collect.soak.nested_cycles import NestedCycles
from kvmprobe.collect.soak.open_msrs import OpenMsrs
from kvmprobe.collect.soak.resource_samples import ResourceSamples, resident_kb
from kvmprobe.collect.soak.suspend_test import SuspendTest
from kvmprobe.collect.soak.time_histogram import TimeHistogram
from kvmprobe.collect.soak.waiting_interrupt import WaitingInterrupt
from kvmprobe.collect.vm_probe import VmProbe
from kvmprobe.host import cpus, guest, kvm, modules, processes
from kvmprobe.host.kvm_amd_reload import KVM_AMD, UnloadedKvmAmd
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.cpu_lists import cpu_names
from kvmprobe.model.errors import Problem
from kvmprobe.model.nested_rules import NOT_RUN, WORKS, kind_of
from kvmprobe.model.registers import EFER, svme

if TYPE_CHECKING:
    from typing import Callable

    from kvmprobe.model.command_evidence import Percentiles, Soak, SoakFailure
    from kvmprobe.model.evidence import MoreEvidence, Uevent

# Other processes' VMs are no excuse for these: EFER.SVME is 1 while any VM lives, and a guest in a guest is ours.
_NEVER_EXCUSED = ("svme-not-set", "kvm-amd-load-failed", "nested-guest-failed")
_MOST_FAILURES = 100  # That are described in the evidence; all are counted.


class SoakPlan:
    """What to do.

    `cycles` or `seconds`: how many cycles, or for how long; the other is None. `vms`: at once. `steps`: "hotplug",
    "reload", "kill", "suspend", "nested". `keep_going`: go on after a failure. `progress`: called with the probe after
    each cycle.
    """

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


class SoakProbe(VmProbe):
    """The evidence is that of the first cycle, which is a whole probe, or of the first cycle that failed.

    `cycles`, `seconds`, `failed`: how many and how long so far, for the progress. `interrupted`: SIGINT ended it early.
    """

    def __init__(self, root: Sysroot, plan: SoakPlan) -> None:
        super().__init__(root, nested="nested" in plan.steps)
        self.plan = plan
        self.cycles = 0
        self.seconds = 0.0
        self.failed = 0
        self.interrupted = False
        self.interfered = 0
        self.failures: list[SoakFailure] = []
        self._steps = dict.fromkeys(plan.steps, 0)
        self._limits: list[str] = []
        self._may_reload = "reload" in plan.steps
        self._memory_kb = [0, 0]
        self._own_pids: list[int | None] = [os.getpid()]
        self._child: int | None = None
        self._killer: ChildKiller | None = None
        self._samples = ResourceSamples(root)
        self._has_uevents = False
        self._last_interfered = 0
        self._cycle: Cycle | None = None

    def run(self, virt_at_load: bool) -> None:
        """Run the probe of a check and, where it created a VM, the cycles."""
        super().run(virt_at_load)
        if self.ioctls["KVM_CREATE_VM"] != 0:
            return  # The verdict of this probe states why.
        runs = self.nested["runs"] if self.nested else {}
        nested = {kind_of(run) for of_paging in runs.values() for run in of_paging}
        if not nested <= {WORKS, NOT_RUN}:
            return  # The same.
        uevents = self.udev.evidence()
        creators = [event["pid"] for event in uevents["events"] if event["event"] == "create"]
        if len(creators) == 1:  # In a container the PID that the kernel knows differs from os.getpid().
            self._own_pids += creators
        self._has_uevents = uevents["source"] is not None
        with ExitStack() as stack:
            alarm = stack.enter_context(guest.GuestAlarm())
            msrs = stack.enter_context(OpenMsrs(self.root))
            if not msrs.readable:
                self._limits.append("the registers cannot be read: only KVM's answers were checked")
            elif not all(svme(registers[EFER.name]) for registers in self.snapshots[1]["cpus"].values()):
                return  # The guest may not run, and the verdict of this probe states why.
            elif not virt_at_load and self._left_svme_set():
                return  # The next KVM_CREATE_VM fails for it, and the verdict of this probe states why.
            excluded = set(cpus.online_cpus(self.root)) - os.sched_getaffinity(0)
            if excluded:
                self._limits.append(f"the guest may not run on {cpu_names(excluded)} (CPU affinity, cpuset)")
            hotplug = stack.enter_context(CpuHotplug(self.root, msrs)) if "hotplug" in self._steps else None
            suspend = stack.enter_context(SuspendTest(self.root, msrs)) if "suspend" in self._steps else None
            interrupt = stack.enter_context(WaitingInterrupt())
            if "nested" in self._steps and WORKS not in nested:
                self._limits.append("no guest ran in a guest, see its check")
            self._run_cycles(msrs, hotplug, suspend, virt_at_load, alarm, interrupt, WORKS in nested)
        if interrupt.came:
            self.interrupted = True
            wanted = f" of {self.plan.cycles:,}" if self.plan.cycles is not None else ""
            self._limits.append(f"SIGINT ended it after {self.cycles:,}{wanted} cycles")
        if hotplug:
            self._limits += hotplug.limits.values()
        if suspend and suspend.limit:
            self._limits.append(suspend.limit)

    def _left_svme_set(self) -> bool:
        """Whether SVME is 1 on some CPU after the first VM where it was 0 before, and no other process has a VM."""
        before, closed = (snapshot["cpus"] for snapshot in (self.snapshots[0], self.snapshots[-1]))
        left = (
            svme(closed[cpu][EFER.name]) and svme(before[cpu][EFER.name]) is False for cpu in closed if cpu in before
        )
        return any(left) and self.vm_users == []

    def _run_cycles(
        self,
        msrs: OpenMsrs,
        hotplug: CpuHotplug | None,
        suspend: SuspendTest | None,
        virt_at_load: bool,
        alarm: guest.GuestAlarm,
        interrupt: WaitingInterrupt,
        nested: bool,
    ) -> None:
        path = self.root.path(self.device["path"])
        cycle = self._cycle = Cycle(self.root, kvm.Kvm(path), msrs, self.udev, virt_at_load, self.plan.vms, alarm)
        try:
            cycle.while_vms_live = [step.run for step in (hotplug, suspend) if step]
            cycle.nested = NestedCycles(alarm) if nested else None
            started = time.monotonic()
            self._memory_kb[0] = resident_kb()
            killer = self._killer = ChildKiller(path, msrs, cycle, self._set_child)
            while self._may_go_on() and self._has_more() and not (self.cycles and interrupt.look()):
                self.cycles += 1
                self._try(cycle, "cycle", cycle.run)
                if self.cycles == 1 and self._may_go_on():
                    started += self._time_exits(cycle)
                if hotplug:
                    self._steps["hotplug"] = hotplug.done
                if suspend:
                    self._steps["suspend"] = suspend.done
                if cycle.nested:
                    self._steps["nested"] = cycle.nested.done
                if "kill" in self._steps and self._may_go_on():
                    self._try(cycle, "kill", killer.kill)
                    self._steps["kill"] = killer.hits()
                if self._may_reload and self._may_go_on() and not self._reload_and_reopen(cycle, path):
                    break
                self.seconds = time.monotonic() - started
                self._samples.look(self.cycles)
                started = time.monotonic() - self.seconds  # What the sample took belongs to no cycle.
                self.plan.progress(self)
            self._samples.end(self.cycles, self.plan.vms)
            self._memory_kb[1] = resident_kb()
            if cycle.busy_cpus:
                self._limits.append(f"the guest did not run on {cpu_names(cycle.busy_cpus)}: busy with real-time work")
            if cycle.nested:
                self._limits += cycle.nested.limits()
        finally:
            cycle.device.close()

    def _time_exits(self, cycle: Cycle) -> float:
        """Measure what an exit costs, once. Return the seconds that it took, which are none of a cycle."""
        started = time.monotonic()
        self._try(cycle, "exits", cycle.time_exits)
        return time.monotonic() - started

    def _may_go_on(self) -> bool:
        return self.plan.keep_going or not self.failed

    def _has_more(self) -> bool:
        if self.plan.cycles is not None:
            return self.cycles < self.plan.cycles
        return self.plan.seconds is None or self.seconds < self.plan.seconds

    def _try(self, cycle: Cycle, step: str, do: Callable[[], None]) -> bool:
        """Return False where `do` raised CycleFailed. The failure is recorded, or counted as interference."""
        try:
            do()
            return True
        except CycleFailed as failed:
            uevents = cycle.uevents()
            if failed.reason not in _NEVER_EXCUSED and self._others_interfered(cycle, uevents):
                self.interfered += self._last_interfered != self.cycles
                self._last_interfered = self.cycles
                return False
            self.failed += 1
            if not self.failures:
                self._keep_evidence(cycle, uevents)
            if len(self.failures) < _MOST_FAILURES:
                self.failures.append({"cycle": self.cycles, "step": step, "what": failed.what, "reason": failed.reason})
            return False

    def _set_child(self, pid: int) -> None:
        self._child = pid

    def _others_interfered(self, cycle: Cycle, uevents: list[Uevent]) -> bool:
        """Whether other processes had VMs, or may have had where there are no uevents."""
        if not self._has_uevents and (cycle.began_with_svme() or processes.vm_users(self.root)):
            return True
        return any(
            event["pid"] not in (*self._own_pids, self._child) or (event["count"] or 0) > self.plan.vms
            for event in uevents
        )

    def _keep_evidence(self, cycle: Cycle, uevents: list[Uevent]) -> None:
        """Make the failed cycle the evidence, in place of the first one."""
        if cycle.raw:
            self.snapshots = cycle.snapshots()
        self.guest = cycle.guest_runs
        if cycle.nested and cycle.nested.evidence:
            self.nested = cycle.nested.evidence
        self.ioctls["KVM_CREATE_VM"] = cycle.created
        self.available_kb = cycle.available_kb
        self.udev.set_evidence(uevents)

    def _reload_and_reopen(self, cycle: Cycle, path: str) -> bool:
        """Reload kvm_amd; False where no further cycle is possible."""
        cycle.device.close()
        self._try(cycle, "reload", lambda: self._reload(cycle))
        if self._may_reload and not modules.is_present(self.root, KVM_AMD):
            return False  # The failure is recorded.
        return self._try(cycle, "reload", lambda: cycle.reopen_device(path))

    def _reload(self, cycle: Cycle) -> None:
        """Unload kvm_amd and load it again. Raises CycleFailed.

        Where it cannot be unloaded because it is used, this becomes a limit, and it is not tried again.
        """
        try:
            with UnloadedKvmAmd(self.root) as unloaded:
                cycle.check_unloaded()
                answer = unloaded.load()[0]
                self._limits += [change for change in unloaded.parameter_changes() if change not in self._limits]
        except Problem as problem:
            self._limits.append(problem.message)
            self._may_reload = False
            return
        if not modules.is_present(self.root, KVM_AMD):
            what = f"kvm_amd could not be loaded again: {answer['output'] or answer['status']}"
            raise CycleFailed(what, "kvm-amd-load-failed")
        self._steps["reload"] += 1
        cycle.check_released("before")

    def extra_evidence(self) -> MoreEvidence:
        """Return the evidence `soak`."""
        cycle = self._cycle
        soak: Soak = {
            "cycles": self.cycles,
            "wanted": self.plan.cycles,
            "seconds": round(self.seconds, 3),
            "vms": self.plan.vms,
            "steps": self._steps,
            "limits": self._limits,
            "interfered": self.interfered,
            "failed": self.failed,
            "failures": self.failures,
            "create": (cycle.create_times if cycle else TimeHistogram()).percentiles(),
            "close": (cycle.close_times if cycle else TimeHistogram()).percentiles(),
            "memory_kb": self._memory_kb,
            "guest": _by_cpu(cycle.guest_times if cycle else {}),
            "exits": _by_cpu(cycle.exit_times if cycle else {}),
            "samples": self._samples.samples,
            "pause": self._samples.pause,
        }
        if cycle and self.plan.vms > 1:
            soak["first_create"] = cycle.first_create_times.percentiles()
            soak["last_close"] = cycle.last_close_times.percentiles()
        if "kill" in self._steps and self._killer:
            soak["kills"] = self._killer.kills
        return {"soak": soak}


def _by_cpu(times: dict[int, TimeHistogram]) -> dict[str, Percentiles]:
    return {str(cpu): of_cpu.percentiles() for cpu, of_cpu in sorted(times.items())}
