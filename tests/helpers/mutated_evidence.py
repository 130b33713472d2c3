"""Recorded evidence with a few random changes of what a verdict can rest on, always within the schema."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from random import Random
from typing import Any

EFER = ("0xd01", "0x1d01", "0x1d01", "0x5d01", "0x0", {"error": "EIO"}, None)
VM_CR = ("0x0", "0x8", "0x10", "0x18", {"error": "EIO"}, None)
EXITS = ("KVM_EXIT_IO", "KVM_EXIT_HLT", "KVM_EXIT_INTERNAL_ERROR", "KVM_EXIT_FAIL_ENTRY", "KVM_EXIT_UNKNOWN", None)
ERRORS = (None, None, "EPERM", "EMFILE", "EINTR", "EIO", "EFAULT")
ANSWERS = (0, 0, 1, -1, None, {"error": "EBUSY"}, {"error": "EIO"}, {"error": "ENOMEM"})
RESULTS = ("ok", "ok", "skipped", "wrong", "failed", "timeout")
NESTED_RESULTS = ("ended", "exception", "skipped", "failed", "timeout")
PHASES = ("before", "created", "closed")
CPUS = ("0", "0-1", "0-1", "0-2", "1", "0-3")


def register(evidence: Any, random: Random) -> None:
    if evidence["snapshots"]:
        snapshot = random.choice(evidence["snapshots"])
        name = random.choice(("EFER", "EFER", "EFER", "VM_CR", "VM_HSAVE_PA"))
        cpus = random.sample(sorted(snapshot["cpus"]), random.randint(0, len(snapshot["cpus"])))
        value = random.choice(VM_CR if name == "VM_CR" else EFER)
        for cpu in cpus:
            snapshot["cpus"][cpu][name] = value


def register_everywhere(evidence: Any, random: Random) -> None:
    value = random.choice(EFER)
    for snapshot in evidence["snapshots"]:
        for registers in snapshot["cpus"].values():
            registers["EFER"] = value


def cpu_of_a_snapshot(evidence: Any, random: Random) -> None:
    if evidence["snapshots"]:
        cpus = random.choice(evidence["snapshots"])["cpus"]
        if cpus and random.random() < 0.5:
            del cpus[random.choice(sorted(cpus))]
        elif cpus:
            cpus[str(random.randrange(4))] = copy.deepcopy(random.choice(list(cpus.values())))


def snapshots(evidence: Any, random: Random) -> None:
    found = evidence["snapshots"]
    if found and random.random() < 0.5:
        del found[random.randrange(len(found))]
    elif found and random.random() < 0.5:
        random.choice(found)["phase"] = random.choice(PHASES)
    elif found:
        found[random.randrange(len(found))] = copy.deepcopy(random.choice(found))


def create_vm(evidence: Any, random: Random) -> None:
    evidence["ioctls"]["KVM_CREATE_VM"] = copy.deepcopy(random.choice(ANSWERS))


def guest(evidence: Any, random: Random) -> None:
    runs = evidence["guest"]
    choice = random.random()
    if runs and choice < 0.3:
        del runs[random.randrange(len(runs))]
    elif runs and choice < 0.8:
        random.choice(runs).update(result=random.choice(RESULTS), error=random.choice(ERRORS))
    else:
        result = random.choice(RESULTS)
        runs.append({"cpu": random.randrange(4), "result": result, "detail": None, "error": None})


def nested(evidence: Any, random: Random) -> None:
    """One run of a guest in a guest differs, where the evidence has one."""
    found = [run for runs in evidence.get("nested", {"runs": {}})["runs"].values() for run in runs]
    if found:
        run, choice = random.choice(found), random.random()
        if choice < 0.5:
            run.update(result=random.choice(NESTED_RESULTS), error=random.choice(ERRORS))
        elif choice < 0.7:
            run.pop("nested", None)
        elif "nested" in run and run["nested"]["exits"]:
            random.choice(run["nested"]["exits"])[random.choice(("code", "sum"))] = random.choice(("0x78", "0x0"))


def uevents(evidence: Any, random: Random) -> None:
    events = evidence["uevents"]["events"]
    choice = random.random()
    if events and choice < 0.6:
        event = random.choice(events)
        field = random.choice(("ours", "pid", "count", "phase", "event"))
        event[field] = {
            "ours": random.random() < 0.5,
            "pid": random.choice((None, 1, 126)),
            "count": random.choice((None, 0, 1, 2)),
            "phase": random.choice(PHASES),
            "event": random.choice(("create", "destroy")),
        }[field]
    elif events and choice < 0.8:
        del events[random.randrange(len(events))]
    elif choice < 0.9:
        evidence["uevents"].update(source=None, error="none", events=[])
    else:
        event = {"event": "create", "pid": 9, "comm": "x", "ours": False, "count": 2, "created": 9, "phase": "closed"}
        events.append(event)


def others(evidence: Any, random: Random) -> None:
    evidence["vm_users"] = random.choice((None, [], [{"pid": 7, "comm": "qemu", "vms": 1}]))


def modules(evidence: Any, random: Random) -> None:
    found = evidence["modules"]
    choice = random.random()
    if not found or choice < 0.1:
        evidence["modules"] = None
    elif choice < 0.4:
        found.pop(random.choice(("kvm", "kvm_amd")), None)
    elif choice < 0.7 and "kvm" in found:
        value = random.choice(("Y", "N", "0", "1", {"error": "EACCES"}))
        found["kvm"]["parameters"]["enable_virt_at_load"] = value
    elif "kvm_amd" in found:
        found["kvm_amd"].update(refcount=random.choice((None, 0, 1)), state=random.choice(("live", "builtin")))


def cpus(evidence: Any, random: Random) -> None:
    field = random.choice(("online", "online_at_end"))
    evidence["cpus"][field] = random.choice((*CPUS, None))


def a_cpu_came_or_went(evidence: Any, random: Random) -> None:
    """A CPU is in the snapshots from some moment on, or up to one, and in the lists accordingly."""
    cpu, moment, went = str(random.randrange(2)), random.randrange(4), random.random() < 0.5
    for index, phase in enumerate(PHASES):
        if (index >= moment) == went:
            for one in evidence["snapshots"]:
                if one["phase"] == phase:
                    one["cpus"].pop(cpu, None)
    evidence["cpus"]["online_at_end" if went else "online"] = str(1 - int(cpu))


def cpu_features(evidence: Any, random: Random) -> None:
    leaves = random.choice(list(evidence["cpus"]["cpuid"].values()))
    leaf = random.choice(("0x0", "0x80000000", "0x80000001", "0x8000000a"))
    if leaf in leaves:
        leaves[leaf] = random.choice(({"error": "EIO"}, ["0x0", "0x0", "0x0", "0x0"], ["0x1", "0x1", "0x4", "0x4"]))


def device(evidence: Any, random: Random) -> None:
    evidence["device"]["opened"] = random.choice((True, None, {"error": "EACCES"}, {"error": "ENOENT"}))
    evidence["device"]["registered"] = random.choice((True, False, None))


def command(evidence: Any, random: Random) -> None:
    if "watch" in evidence and evidence["watch"]["calls"]:
        call = random.choice(evidence["watch"]["calls"])
        call["answer"] = copy.deepcopy(random.choice(ANSWERS))
        if call["name"] == "KVM_RUN":
            call["exit_reason"] = random.choice(EXITS)
    elif random.random() < 0.2:
        evidence["passive"] = True


CHANGES: tuple[Callable[[Any, Random], None], ...] = (
    *(register,) * 6,
    *(register_everywhere, cpu_of_a_snapshot, snapshots) * 2,
    *(guest, uevents, a_cpu_came_or_went) * 3,
    *(nested,) * 2,
    *(create_vm, others, modules, cpus, cpu_features, device, command),
)


def mutated(evidence: Any, random: Random) -> Any:
    """A copy of the evidence with one to four changes."""
    changed = pickle.loads(pickle.dumps(evidence))
    for change in random.choices(CHANGES, k=random.randint(1, 4)):
        change(changed, random)
    return changed
