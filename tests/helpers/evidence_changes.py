"""Changes of recorded evidence that variants are made of. Each function gives a change, or is one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from tests.helpers.variants import Evidence, no_kvm_amd, not_permitted, set_everywhere, set_leaf, without_cpuid

SET = "0x1d01"  # EFER with SVME
CLEAR = "0xd01"  # and without
UNREAD = {"error": "EIO"}
_PVM = {"state": "live", "refcount": 0, "holders": [], "parameters": {}}
VENDORS = {
    "AuthenticAMD": ("0x68747541", "0x444d4163", "0x69746e65"),
    "HygonGenuine": ("0x6f677948", "0x656e6975", "0x6e65476e"),
    "GenuineIntel": ("0x756e6547", "0x6c65746e", "0x49656e69"),
    "CentaurHauls": ("0x746e6543", "0x736c7561", "0x48727561"),
}


def with_rights_of_root(evidence: Evidence) -> None:
    """All capabilities, in the namespace of the host's users."""
    evidence["rights"] = {
        "groups": ["root"],
        "capabilities": "1ffffffffff",
        "seccomp": "0",
        "user_namespace": False,
        "lsm": None,
        "dev_mounts": None,
    }


def vendor(name: str, *cpus: str) -> Callable[[Evidence], None]:
    def change(evidence: Evidence) -> None:
        ebx, ecx, edx = VENDORS[name]
        for index, value in ((1, ebx), (2, ecx), (3, edx)):
            set_leaf(evidence, "0x0", index, value, cpus or ("0", "1"))

    return change


def leaf(number: str, index: int, value: str, *cpus: str) -> Callable[[Evidence], None]:
    return lambda evidence: set_leaf(evidence, number, index, value, cpus or ("0", "1"))


def leaf_unread(number: str, *cpus: str) -> Callable[[Evidence], None]:
    def change(evidence: Evidence) -> None:
        for cpu in cpus:
            evidence["cpus"]["cpuid"][cpu][number] = UNREAD

    return change


def machine(name: str) -> Callable[[Evidence], None]:
    return lambda evidence: evidence["host"].update(machine=name)


def everywhere(name: str, value: Any, *cpus: str) -> Callable[[Evidence], None]:
    return lambda evidence: set_everywhere(evidence, name, value, cpus or ("0", "1"))


def snapshot_missing(phase: str) -> Callable[[Evidence], None]:
    def change(evidence: Evidence) -> None:
        evidence["snapshots"] = [one for one in evidence["snapshots"] if one["phase"] != phase]

    return change


def second_snapshot(phase: str, efer: str | None) -> Callable[[Evidence], None]:
    """The phase occurs twice, in place of the last phase, and the second snapshot has this EFER on cpu1. None: the
    first snapshot lacks cpu1."""

    def change(evidence: Evidence) -> None:
        first = next(one for one in evidence["snapshots"] if one["phase"] == phase)
        again = copy.deepcopy(first)
        if efer is None:
            del first["cpus"]["1"]
        else:
            again["cpus"]["1"]["EFER"] = efer
        evidence["snapshots"][-1] = again

    return change


def module(name: str, **fields: Any) -> Callable[[Evidence], None]:
    return lambda evidence: evidence["modules"].update({name: {**_PVM, **fields}})


def without_module(name: str) -> Callable[[Evidence], None]:
    return lambda evidence: evidence["modules"].pop(name)


def count_other_vm(evidence: Evidence) -> None:
    """COUNT of our uevents is one higher: another VM is alive."""
    for event in evidence["uevents"]["events"]:
        event["count"] += 1
        event["created"] += 1


def in_a_container(evidence: Evidence) -> None:
    """The kernel reports our PID of its own namespace, so that our uevents do not look like ours."""
    for event in evidence["uevents"]["events"]:
        event.update(ours=False, pid=99999)


def events_after_ours(evidence: Evidence) -> None:
    """Another process creates and destroys a VM after ours was created."""
    ours = evidence["uevents"]["events"][0]
    total = None if ours["created"] is None else ours["created"] + 1
    other = {**ours, "pid": 4711, "comm": "qemu-system-x86", "ours": False, "count": 2, "created": total}
    other["phase"] = "closed"
    evidence["uevents"]["events"] += [other, {**other, "event": "destroy"}]


def without_counts(evidence: Evidence) -> None:
    for event in evidence["uevents"]["events"]:
        event["count"] = None


def guest_missing(evidence: Evidence) -> None:
    evidence["guest"] = []


def guests_skipped(evidence: Evidence) -> None:
    for run in evidence["guest"]:
        run.update(result="skipped", detail="sched_setaffinity", error="EINVAL")


def create_answers(answer: Any) -> Callable[[Evidence], None]:
    return lambda evidence: evidence["ioctls"].update(KVM_CREATE_VM=answer)


def device(**fields: Any) -> Callable[[Evidence], None]:
    return lambda evidence: evidence["device"].update(fields)


def modprobe(*attempts: tuple[str, int | None, str]) -> Callable[[Evidence], None]:
    def change(evidence: Evidence) -> None:
        no_kvm_amd(evidence)
        evidence["loads"] = [{"module": m, "status": s, "output": o, "unloaded": None} for m, s, o in attempts]

    return change


def without_flags(*cpus: str) -> Callable[[Evidence], None]:
    def change(evidence: Evidence) -> None:
        for cpu in cpus:
            evidence["cpus"]["cpuinfo"][cpu]["flags"] = None

    return change


def no_flag(evidence: Evidence) -> None:
    for info in evidence["cpus"]["cpuinfo"].values():
        info["flags"].remove("svm")


def sev(value: Any) -> Callable[[Evidence], None]:
    return lambda evidence: evidence["cpus"].update(sev_status=value)


def cpu1_went(evidence: Evidence) -> None:
    evidence["cpus"]["online_at_end"] = "0"


def user_of_kvm_pvm(evidence: Evidence) -> None:
    """An ordinary user in a cloud guest: no registers, no raw CPUID, and a /dev/kvm of kvm_pvm that he may not open."""
    not_permitted(evidence)
    without_cpuid(evidence)
    no_flag(evidence)
    evidence["modules"]["kvm_pvm"] = evidence["modules"].pop("kvm_amd")


def kvm_amd(**fields: Any) -> Callable[[Evidence], None]:
    return lambda evidence: evidence["modules"]["kvm_amd"].update(fields)


def at_load(value: Any) -> Callable[[Evidence], None]:
    return lambda evidence: evidence["modules"]["kvm"]["parameters"].update(enable_virt_at_load=value)


def users(*found: str) -> Callable[[Evidence], None]:
    """These processes were found to have a VM."""
    return lambda evidence: evidence.update(vm_users=[{"pid": 7, "comm": comm, "vms": 1} for comm in found])


def no_uevents(evidence: Evidence) -> None:
    evidence["uevents"].update(source=None, error="pyudev cannot be used")


def foreign_event(evidence: Evidence) -> None:
    event = {"event": "create", "pid": 1, "comm": "init", "ours": False, "count": 2, "created": 9, "phase": "before"}
    evidence["uevents"]["events"].append(event)


def registered(value: bool | None) -> Callable[[Evidence], None]:
    return lambda evidence: evidence["device"].update(registered=value)


def log(*texts: str) -> Callable[[Evidence], None]:
    """These lines are the kernel's log."""

    def change(evidence: Evidence) -> None:
        evidence["log"] = {"error": None, "lines": [{"seconds": 1.0, "text": text} for text in texts]}

    return change


def under(name: str) -> Callable[[Evidence], None]:
    """The host is a VM of the hypervisor with this signature in CPUID 0x40000000."""

    def change(evidence: Evidence) -> None:
        data = name.encode().ljust(12, b"\0")
        words = [hex(int.from_bytes(data[index : index + 4], "little")) for index in (0, 4, 8)]
        for number in evidence["cpus"]["cpuid"]:
            leaves = evidence["cpus"]["cpuid"][number]
            leaves["0x1"][2] = hex(int(leaves["0x1"][2], 16) | 1 << 31)
            leaves["0x40000000"] = ["0x40000001", *words]

    return change
