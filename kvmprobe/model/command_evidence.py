"""The types of what the commands `trace`, `watch` and `soak` add to evidence. Types only, as in evidence.py."""

from __future__ import annotations

from typing import TypedDict

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Answer, GuestRun, Ioctls, KvmUser, Reading, Snapshot


class TraceEntry(TypedDict):
    phase: str  # what kvmprobe was doing: "load", "before", "create", "alive", "close", "after"
    seconds: float  # by the trace's clock
    cpu: int
    task: str
    pid: int
    function: str | None  # of the kernel; None: this is a write of a register
    caller: str | None
    register: str | None  # "EFER", "VM_HSAVE_PA"
    value: Reading  # written; an error where the CPU refused it


class Trace(TypedDict):
    source: str  # "tracefs, function tracer, msr:write_msr"
    clock: str
    visible: dict[str, list[str]]  # by step of kernel_steps.STEPS: the kernel's functions that could be traced
    writes_visible: bool  # whether writes of registers could be traced
    lost: dict[str, int]  # entries, by CPU
    limits: list[str]  # what could not be traced, and why
    unloaded: dict[str, dict[str, Reading]] | None  # the registers before kvm_amd was loaded, where the trace has that
    entries: list[TraceEntry]


class MoreOfCall(TypedDict, total=False):
    """Missing in evidence of older versions, and of other calls than KVM_RUN."""

    exit_reason: str | None  # of a KVM_RUN that succeeded: "KVM_EXIT_HLT"; None: it could not be read


class WatchedCall(MoreOfCall):
    """One ioctl of KVM that a watched command called."""

    name: str  # "KVM_CREATE_VM"
    request: str  # as the kernel saw it, hexadecimal
    argument: str
    answer: Answer  # None: it did not return
    pid: int
    tid: int
    comm: str | None
    entry: dict[str, dict[str, Reading]]  # the registers by CPU, with the thread stopped before the call
    exit: dict[str, dict[str, Reading]] | None  # and after it; None: it did not return


class OwnView(TypedDict):
    """What kvmprobe's own guest reported, to be compared with what ptrace observed."""

    ioctls: Ioctls
    snapshots: list[Snapshot]
    guest: list[GuestRun]


class Watch(TypedDict):
    source: str  # "python-ptrace 0.9.9"
    command: list[str] | None  # None: kvmprobe's own guest, or attached to `pid`
    own: bool  # it was kvmprobe's own small guest
    pid: int
    ended: str  # "exited", "killed", "detached": it is still running
    status: int | None  # the exit status, or the number of the signal that killed it
    processes: int  # that were followed
    calls: list[WatchedCall]
    said: OwnView | None  # the report of kvmprobe's own guest; None: it ended before it reported, or is not own
    limits: list[str]  # what could not be observed, and why


class Percentiles(TypedDict):
    """Of times, in microseconds."""

    count: int
    min: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    p99_9: float | None
    max: float | None


class SoakFailure(TypedDict):
    cycle: int
    step: str  # "cycle", "hotplug", "reload", "kill"
    what: str
    reason: str  # of reasons.py


class Kills(TypedDict):
    """Children that were killed, by what their VM was doing at that moment."""

    missed: int  # there was no VM
    creating: int  # within KVM_CREATE_VM
    alive: int
    closing: int  # while its descriptors were closed


class SoakSample(TypedDict):
    """What was in use after a cycle, without any VM of kvmprobe. None: it could not be read."""

    cycles: int  # that were run until then
    seconds: float  # since the beginning
    descriptors: int | None  # of kvmprobe, all
    kvm_descriptors: int | None  # of kvmprobe, those that KVM opened
    references: int | None  # to kvm_amd
    vmalloc_kb: int | None  # VmallocUsed without KernelStack, by /proc/meminfo
    slab_kb: int | None  # of KVM's slab caches
    own_kb: int  # resident memory of kvmprobe


class SoakPause(TypedDict):
    """A pause without VMs after the last sample, taken where something had grown steadily."""

    seconds: float
    sample: SoakSample  # after it
    users: list[KvmUser]  # other processes that had KVM open then


class MoreOfSoak(TypedDict, total=False):
    """Of some soaks only, or missing in evidence of older versions."""

    kills: Kills
    guest: dict[str, Percentiles]  # of each run of the guest that went to its end, by CPU
    exits: dict[str, Percentiles]  # of KVM_RUN for each write to a port, by CPU: what an exit costs
    first_create: Percentiles  # of several VMs at once: of the first one, with which KVM sets SVME
    last_close: Percentiles  # of several VMs at once: of the last one, with which KVM clears SVME
    samples: list[SoakSample]  # the first after the first cycle, the last after the last one
    pause: SoakPause | None  # None: not needed


class Soak(MoreOfSoak):
    cycles: int  # that were run
    wanted: int | None  # None: as many as fit into the given time
    seconds: float
    vms: int  # at once
    # How often each ran: "hotplug" (of a CPU), "suspend", "reload", "kill" (that hit a VM), "nested".
    steps: dict[str, int]
    limits: list[str]  # what could not be done, and why
    interfered: int  # cycles that VMs of other processes disturbed
    failed: int
    failures: list[SoakFailure]  # the first of them
    create: Percentiles
    close: Percentiles
    memory_kb: list[int]  # resident memory at the beginning and at the end
