"""Changes of recorded evidence for the rows of part_variants.py. Each function gives a change, or is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.helpers.evidence_changes import (
    cpu1_went,
    leaf,
    log,
    no_flag,
)
from tests.helpers.variants import (
    Evidence,
    each,
    modprobe_answers,
    no_kvm_amd,
    not_permitted,
    toggled,
)


def no_cpu(evidence: Evidence) -> None:
    """A sandbox without /proc, /sys and /dev/cpu: nothing names a CPU."""
    evidence["cpus"].update(online=None, online_at_end=None, cpuid={}, cpuinfo={"error": "ENOENT"})
    evidence["guest"] = []
    for snapshot in evidence["snapshots"]:
        snapshot["cpus"] = {}


def unknown_lists(evidence: Evidence) -> None:
    evidence["cpus"].update(online=None, online_at_end=None)


def no_cpu_before(evidence: Evidence) -> None:
    """Nothing identifies a CPU, and none is named before KVM_CREATE_VM."""
    evidence["cpus"].update(online=None, online_at_end=None, cpuid={}, cpuinfo={"error": "ENOENT"})
    evidence["snapshots"][0]["cpus"] = {}


def no_cpu_with_a_vm(evidence: Evidence) -> None:
    """cpu0 was there before KVM_CREATE_VM, its registers were not read, and no CPU is named after it."""
    identity = {source: {"0": evidence["cpus"][source]["0"]} for source in ("cpuid", "cpuinfo")}
    no_cpu(evidence)
    evidence["cpus"].update(identity)
    evidence["snapshots"][0]["cpus"] = {"0": dict.fromkeys(("EFER", "VM_CR", "VM_HSAVE_PA"))}


def eight_cpus(evidence: Evidence) -> None:
    """Another bit of EFER is set on each CPU: more values than a text shows."""
    evidence["cpus"].update(online="0-7", online_at_end="0-7")
    for source in ("cpuid", "cpuinfo"):
        evidence["cpus"][source] = {str(cpu): evidence["cpus"][source]["0"] for cpu in range(8)}
    for snapshot in evidence["snapshots"]:
        registers = snapshot["cpus"]["0"]
        efer, page = int(registers["EFER"], 16), int(registers["VM_HSAVE_PA"], 16)
        for cpu in range(8):
            values = {"EFER": hex(efer | 1 << 20 + cpu), "VM_HSAVE_PA": hex(page and page + cpu * 0x1000)}
            snapshot["cpus"][str(cpu)] = {**registers, **values}


def another_bit(cpu: str) -> Callable[[Evidence], None]:
    """A bit of EFER that has nothing to do with SVM is always set on this CPU."""

    def change(evidence: Evidence) -> None:
        for snapshot in evidence["snapshots"]:
            if cpu in snapshot["cpus"]:
                registers = snapshot["cpus"][cpu]
                registers["EFER"] = hex(int(registers["EFER"], 16) | 1 << 14)

    return change


def cpu1_unidentified(evidence: Evidence) -> None:
    """Neither raw CPUID nor /proc/cpuinfo has cpu1."""
    for source in ("cpuid", "cpuinfo"):
        del evidence["cpus"][source]["1"]


def cpu1_went_before(evidence: Evidence) -> None:
    """cpu1 went offline before KVM_CREATE_VM."""
    cpu1_went(evidence)
    for phase in ("created", "closed"):
        toggled(phase)(evidence)


def cpu2_came(evidence: Evidence) -> None:
    """cpu2 came online after the first snapshot."""
    evidence["cpus"]["online_at_end"] = "0-2"
    for snapshot in evidence["snapshots"][1:]:
        registers = snapshot["cpus"]["1"]
        page = int(registers["VM_HSAVE_PA"], 16)
        snapshot["cpus"]["2"] = {**registers, "VM_HSAVE_PA": hex(page and page + 0x1000)}


def left_out(*cpus: int) -> Callable[[Evidence], None]:
    """The guest was not to run on these CPUs."""

    def change(evidence: Evidence) -> None:
        evidence["guest_left_out"] = {str(cpu): "isolated" for cpu in cpus}
        evidence["guest"] = [run for run in evidence["guest"] if run["cpu"] not in cpus]

    return change


def runs_on_cpu1(*runs: tuple[str, str, str | None]) -> Callable[[Evidence], None]:
    """The runs on cpu1: result, detail, error."""

    def change(evidence: Evidence) -> None:
        evidence["guest"][1:] = [{"cpu": 1, "result": r, "detail": d, "error": e} for r, d, e in runs]

    return change


def event(place: int, **fields: Any) -> Callable[[Evidence], None]:
    """One more uevent at this place of the list: by default, another process creates the only VM."""
    usual = {"event": "create", "pid": 4711, "comm": "qemu", "ours": False, "count": 1, "created": 9}
    return lambda evidence: evidence["uevents"]["events"].insert(place, {**usual, "phase": "created", **fields})


def same_pid_before(evidence: Evidence) -> None:
    """A process that is gone had our PID, and created a second VM."""
    event(0, pid=evidence["uevents"]["events"][0]["pid"], count=2, phase="before")(evidence)


def kvm_linked(evidence: Evidence) -> None:
    """A module that is no vendor module is linked to kvm, and counts in its references."""
    evidence["modules"]["kvm"].update(refcount=2, holders=["kvm_amd", "vboxdrv"])


def with_flag(evidence: Evidence) -> None:
    for info in evidence["cpus"]["cpuinfo"].values():
        info["flags"].append("svm")


def user_without_svm(evidence: Evidence) -> None:
    """An ordinary user of a host with kvm_pvm who can read raw CPUID, and may not open /dev/kvm."""
    not_permitted(evidence)
    leaf("0x80000001", 2, "0x1")(evidence)
    no_flag(evidence)
    evidence["modules"]["kvm_pvm"] = evidence["modules"].pop("kvm_amd")


def of_runs(**fields: Any) -> Callable[[Evidence], None]:
    """Fields of each KVM_RUN of a watched command."""

    def change(evidence: Evidence) -> None:
        for call in evidence["watch"]["calls"]:
            if call["name"] == "KVM_RUN":
                call.update(fields)

    return change


def not_loaded(*texts: str) -> Callable[[Evidence], None]:
    """kvm_amd is not loaded, and the kernel's log has these lines."""
    return each(no_kvm_amd, log(*texts))


def refused(*texts: str, answer: str = "Operation not supported") -> Callable[[Evidence], None]:
    """The kernel refused kvm_amd, and its log has these lines."""
    return each(modprobe_answers(1, f"modprobe: ERROR: could not insert 'kvm_amd': {answer}"), log(*texts))
