"""A probe that does not touch /dev/kvm: it watches a process that does, and reads the registers at each KVM ioctl."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.vm_probe import VmProbe
from kvmprobe.collect.watch import ptrace_calls
from kvmprobe.collect.watch.blocked_signals import BlockedSignals
from kvmprobe.collect.watch.exit_reason import read_exit_reason
from kvmprobe.collect.watch.tracees import ObservedCall
from kvmprobe.host import cpus, msr, processes
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.registers import EFER, VM_CR
from kvmprobe.model.values import GUEST_RAN_EXITS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Union

    from kvmprobe.collect.watch.follower import Follower
    from kvmprobe.collect.watch.kvm_ioctls import KvmIoctl
    from kvmprobe.collect.watch.watch_targets import Command, OwnGuest, RunningProcess
    from kvmprobe.model.command_evidence import OwnView, Watch, WatchedCall
    from kvmprobe.model.evidence import Answer, MoreEvidence, Reading, Snapshot

    Target = Union[Command, OwnGuest, RunningProcess]

MOST_CALLS = 64  # Of each name that are kept: a report must not grow with the time that a process is watched.
_CALL_REGISTERS = (EFER, VM_CR)  # Recorded at the entry and exit of each call.


class WatchProbe(VmProbe):
    """Watches `target`; it is the Observer of its Follower. `follower`: who followed the target, after `run`."""

    def __init__(self, root: Sysroot, target: Target) -> None:
        super().__init__(root)
        self.follower: Follower | None = None
        self._target = target
        self._own_view: OwnView | None = None
        self._calls: list[WatchedCall] = []
        self._call_counts: dict[str, int] = {}
        self._pids_with_run: set[int] = set()  # Processes whose guest has run.
        self._other_exits: set[str | None] = set()  # Exit reasons of KVM_RUN that do not show that the guest ran.
        self._pids_with_unknown_abi: set[int] = set()
        self._before: Snapshot | None = None
        self._created: Snapshot | None = None

    def run(self, virt_at_load: bool) -> None:
        """Watch the target to its end. Raises UsageProblem and Problem, see targets.py."""
        self.udev.start_monitor()
        self._before = self._read_registers("before")  # Kept where there is no KVM_CREATE_VM at all.
        with BlockedSignals() as signals:
            self.follower = self._target.follow(self.root, self, signals)
        self.snapshots.append(self._before)
        if self._created is not None:
            self.snapshots.append(self._created)
            if not any(processes.count_vms(self.root, pid) for pid in self.follower.remaining_pids):
                self._take_snapshot("closed")
        self.idle()
        self._own_view = self._target.own_view()
        if self._own_view is not None:
            self.guest = self._own_view["guest"]
        self._find_other_vms(virt_at_load)

    def _read_registers(self, phase: str) -> Snapshot:
        return msr.take_snapshot(self.root, cpus.online_cpus(self.root), phase)

    # The methods of Observer.

    def thread_found(self, tid: int, pid: int) -> None:
        """See Observer. KVM's uevents name the thread that created the VM."""
        self.udev.own_pids |= {tid, pid}

    def call_entered(self, tid: int, pid: int, ioctl: KvmIoctl) -> ObservedCall:
        """See Observer."""
        name = ioctl.name
        entry = self._read_registers("before")
        call: WatchedCall = {
            "name": name,
            "request": hex(ioctl.request),
            "argument": hex(ioctl.argument),
            "answer": None,
            "pid": pid,
            "tid": tid,
            "comm": processes.process_name(self.root, pid),
            "entry": _call_registers(entry),
            "exit": None,
        }
        if name in ("KVM_GET_API_VERSION", "KVM_CREATE_VM"):
            self.device["opened"] = True
        if name != "KVM_RUN":  # Of many KVM_RUN only those are kept that show something new.
            self._keep(call)
        if name == "KVM_CREATE_VM" and self.ioctls["KVM_CREATE_VM"] != 0:
            self.udev.collect_uevents(self.root, "before")
        return ObservedCall(ioctl, call, entry)

    def call_returned(self, call: ObservedCall, answer: Answer) -> bool:
        """See Observer. The first KVM_RUN after which the guest is known to have run is the last call of interest."""
        name = call.evidence["name"]
        is_last = False
        if name == "KVM_RUN":
            if not isinstance(answer, int):
                return False
            reason = call.evidence["exit_reason"] = read_exit_reason(call.evidence["pid"], call.ioctl.fd)
            # Where it cannot be read, it cannot be read of the next one either.
            is_last = reason is None or reason in GUEST_RAN_EXITS
            if not is_last and reason in self._other_exits:
                return False
            self._other_exits.add(reason)
        after = self._read_registers("created")
        call.evidence["answer"] = answer
        call.evidence["exit"] = _call_registers(after)
        if name == "KVM_RUN":
            self._keep(call.evidence)
            if is_last:
                self._pids_with_run.add(call.evidence["pid"])
        elif name == "KVM_GET_API_VERSION" and self.ioctls["KVM_GET_API_VERSION"] is None:
            self.ioctls["KVM_GET_API_VERSION"] = answer
        elif name == "KVM_CREATE_VM" and self.ioctls["KVM_CREATE_VM"] != 0:
            self._record_create_vm(call.entry, after, answer)
        return is_last

    def _record_create_vm(self, before: Snapshot, created: Snapshot, answer: Answer) -> None:
        """The first KVM_CREATE_VM that succeeds is judged; where none succeeds, the first."""
        if isinstance(answer, int) or self._created is None:
            self._before, self._created = before, created
            self.ioctls["KVM_CREATE_VM"] = 0 if isinstance(answer, int) else answer
            self.udev.collect_uevents(self.root, "created")

    def _keep(self, call: WatchedCall) -> None:
        count = self._call_counts[call["name"]] = self._call_counts.get(call["name"], 0) + 1
        if count <= MOST_CALLS:
            self._calls.append(call)

    def unknown_abi(self, pid: int) -> None:
        """See Observer."""
        self._pids_with_unknown_abi.add(pid)

    def idle(self) -> None:
        """See Observer. Collects the uevents, so that none is lost while the command runs."""
        self.udev.collect_uevents(self.root, "closed" if self._created else "before")

    # Evidence.

    def extra_evidence(self) -> MoreEvidence:
        """Return the evidence `watch`."""
        if self.follower is None:
            return {}
        watch: Watch = {
            "source": ptrace_calls.SOURCE,
            "command": self._target.argv,
            "own": self._target.own,
            "pid": self.follower.main,
            "ended": self.follower.ended,
            "status": self.follower.status,
            "processes": self.follower.process_count,
            "calls": self._calls,
            "said": self._own_view,
            "limits": self._limits(),
        }
        return {"watch": watch}

    def _limits(self) -> list[str]:
        limits = []
        if self._pids_with_run:
            text = "the calls of a process after its first successful KVM_RUN are not watched"
            limits.append(f"{text} ({_name_processes(self._pids_with_run)})")
        for name, count in self._call_counts.items():
            if count > MOST_CALLS:
                limits.append(f"{name} was called {count} times, the first {MOST_CALLS} calls are kept")
        if self._pids_with_unknown_abi:
            text = "system calls of an unknown ABI are not watched"
            limits.append(f"{text} ({_name_processes(self._pids_with_unknown_abi)})")
        if self.follower and self.follower.remaining_pids:
            text = "what runs on after kvmprobe detached is not watched"
            limits.append(f"{text} ({_name_processes(self.follower.remaining_pids)})")
        return limits


def _name_processes(pids: Iterable[int]) -> str:
    return f"process {', '.join(map(str, sorted(pids)))}"


def _call_registers(snapshot: Snapshot) -> dict[str, dict[str, Reading]]:
    """By CPU, the registers that are recorded with a call."""
    return {
        cpu: {register.name: registers[register.name] for register in _CALL_REGISTERS}
        for cpu, registers in snapshot["cpus"].items()
    }
