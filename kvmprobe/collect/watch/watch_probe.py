"""The probe that touches no /dev/kvm itself: it watches somebody else do so, and reads the registers at each step."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.vm_probe import Probe
from kvmprobe.collect.watch import ptrace_calls
from kvmprobe.collect.watch.blocked_signals import Signals
from kvmprobe.collect.watch.follower import Call
from kvmprobe.host import cpus, msr, processes
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.registers import EFER, VM_CR

if TYPE_CHECKING:
    from typing import Union

    from kvmprobe.collect.watch.follower import Follower
    from kvmprobe.collect.watch.targets import Command, OwnGuest, Running
    from kvmprobe.model.evidence import Answer, MoreEvidence, OwnView, Reading, Snapshot, Watch, WatchedCall

    Target = Union[Command, OwnGuest, Running]

MOST_CALLS = 64  # of one name: a report must not grow with what is watched


class WatchProbe(Probe):
    """Watches `target`; see there and `Witness` in follow.py. `follower` is known after `run`."""

    def __init__(self, root: Sysroot, target: Target) -> None:
        super().__init__(root)
        self.follower: Follower | None = None
        self._target = target
        self._said: OwnView | None = None
        self._calls: list[WatchedCall] = []
        self._counts: dict[str, int] = {}
        self._ran: set[int] = set()  # the processes whose guests have run
        self._unknown: set[int] = set()
        self._before: Snapshot | None = None
        self._created: Snapshot | None = None

    def run(self, at_load: bool) -> None:
        self.udev.listen()
        self._before = self._registers("before")  # where there is no KVM_CREATE_VM at all
        with Signals() as signals:
            self.follower = self._target.follow(self.root, self, signals)
        self.snapshots.append(self._before)
        if self._created is not None:
            self.snapshots.append(self._created)
            if not any(processes.vms_of(self.root, pid) for pid in self.follower.left):
                self._snapshot("closed")
        self.udev.drain(self.root, "closed" if self._created else "before")
        self._said = self._target.said()
        if self._said is not None:
            self.guest = self._said["guest"]
        self._look_for_others(at_load)

    def _registers(self, phase: str) -> Snapshot:
        return msr.snapshot(self.root, cpus.online(self.root), phase)

    # Witness

    def found(self, tid: int, pid: int) -> None:
        self.udev.ours |= {tid, pid}

    def entered(self, tid: int, pid: int, name: str, request: int, argument: int) -> Call:
        entry = self._registers("before")
        seen: WatchedCall = {
            "name": name,
            "request": hex(request),
            "argument": hex(argument),
            "answer": None,
            "pid": pid,
            "tid": tid,
            "comm": processes.comm(self.root, pid),
            "entry": _shown(entry),
            "exit": None,
        }
        if name in ("KVM_GET_API_VERSION", "KVM_CREATE_VM"):
            self.device["opened"] = True
        if name != "KVM_RUN":  # of many, the first that succeeds is of interest
            self._keep(seen)
        if name == "KVM_CREATE_VM" and self.ioctls["KVM_CREATE_VM"] != 0:
            self.udev.drain(self.root, "before")
        return Call(seen, entry)

    def returned(self, call: Call, answer: Answer) -> bool:
        name = call.seen["name"]
        done = name == "KVM_RUN" and isinstance(answer, int)
        if name == "KVM_RUN" and not done:
            return False
        after = self._registers("created")
        call.seen["answer"] = answer
        call.seen["exit"] = _shown(after)
        if done:
            self._ran.add(call.seen["pid"])
            self._keep(call.seen)
        elif name == "KVM_GET_API_VERSION" and self.ioctls["KVM_GET_API_VERSION"] is None:
            self.ioctls["KVM_GET_API_VERSION"] = answer
        elif name == "KVM_CREATE_VM" and self.ioctls["KVM_CREATE_VM"] != 0:
            self._vm_created(call.entry, after, answer)
        return done

    def _vm_created(self, before: Snapshot, created: Snapshot, answer: Answer) -> None:
        """The first that succeeds is the one to be judged, else the first."""
        if isinstance(answer, int) or self._created is None:
            self._before, self._created = before, created
            self.ioctls["KVM_CREATE_VM"] = 0 if isinstance(answer, int) else answer
            self.udev.drain(self.root, "created")

    def _keep(self, seen: WatchedCall) -> None:
        count = self._counts[seen["name"]] = self._counts.get(seen["name"], 0) + 1
        if count <= MOST_CALLS:
            self._calls.append(seen)

    def unknown_abi(self, pid: int) -> None:
        self._unknown.add(pid)

    def idle(self) -> None:
        """Takes the uevents now and then, so that none is lost while the command runs."""
        self.udev.drain(self.root, "closed" if self._created else "before")

    # Evidence

    def more(self) -> MoreEvidence:
        if self.follower is None:
            return {}
        watch: Watch = {
            "source": ptrace_calls.SOURCE,
            "command": self._target.argv,
            "own": self._target.own,
            "pid": self.follower.main,
            "ended": self.follower.ended,
            "status": self.follower.status,
            "processes": self.follower.followed,
            "calls": self._calls,
            "said": self._said,
            "limits": self._limits(),
        }
        return {"watch": watch}

    def _limits(self) -> list[str]:
        limits = []
        if self._ran:
            pids = ", ".join(map(str, sorted(self._ran)))
            limits.append(f"a process's calls are not watched after its first KVM_RUN that succeeds (process {pids})")
        for name, count in self._counts.items():
            if count > MOST_CALLS:
                limits.append(f"{name} was called {count} times, the first {MOST_CALLS} are kept")
        if self._unknown:
            pids = ", ".join(map(str, sorted(self._unknown)))
            limits.append(f"system calls of an unknown ABI are not understood (process {pids})")
        if self.follower and self.follower.left:
            pids = ", ".join(map(str, sorted(self.follower.left)))
            limits.append(f"what comes after kvmprobe let go is not seen (process {pids})")
        return limits


def _shown(snapshot: Snapshot) -> dict[str, dict[str, Reading]]:
    """Of the registers those that a call is shown with."""
    return {
        cpu: {register.name: registers[register.name] for register in (EFER, VM_CR)}
        for cpu, registers in snapshot["cpus"].items()
    }
