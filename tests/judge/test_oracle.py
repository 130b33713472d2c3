"""An independent oracle: "confirmed" only where the registers in the evidence show it.

The oracle shares no code with the judge and reads the evidence alone. It gives a veto, not a verdict: evidence that it
lets pass may still be anything but confirmed. A CPU counts as soon as the evidence shows that it was there while the VM
lived, whatever became of it before or later.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.judge import judge
from kvmprobe.model.errors import DataProblem
from kvmprobe.report.stored_report import evidence_of
from tests.helpers.counted import NUMBERS
from tests.helpers.judged_variants import VARIANTS
from tests.helpers.mutated_evidence import mutated
from tests.helpers.recorded_evidence import RECORDED, recorded, recorded_name

CASES = 4000

# A guest that could not run because of what this process may do or has shows nothing about the host.
OWN_LIMITS = ("EACCES", "EPERM", "ENOSYS", "EMFILE", "ENFILE", "ENOMEM", "EINTR", "EAGAIN")


# Exits of KVM_RUN that an instruction of the guest caused: include/uapi/linux/kvm.h, KVM_EXIT_...
GUEST_EXITS = ("KVM_EXIT_IO", "KVM_EXIT_HYPERCALL", "KVM_EXIT_HLT", "KVM_EXIT_MMIO")


def cpus_while_the_vm_lived(evidence: Any) -> set[int]:
    """Those in a snapshot of that time, those where a guest ran, and those that are named both before and after it."""
    phases = {phase: [set(map(int, one["cpus"])) for one in evidence["snapshots"] if one["phase"] == phase] for phase in
              ("before", "created", "closed")}  # fmt: skip
    start, end = (numbers(evidence["cpus"][field]) for field in ("online", "online_at_end"))
    earlier = start.union(*phases["before"])
    later = (end if evidence["cpus"]["online_at_end"] else start).union(*phases["closed"])
    ran = {run["cpu"] for run in evidence["guest"] if run["result"] != "skipped"}
    return (earlier & later).union(ran, *phases["created"])


def veto(evidence: Any) -> str | None:
    """Why this evidence cannot be "confirmed"; None where nothing forbids it."""
    snapshots, there = evidence["snapshots"], cpus_while_the_vm_lived(evidence)

    def svme(phase: str) -> dict[int, set[int | None]]:
        """Bit 12 of EFER by CPU, in each snapshot of the phase; None where it was not read."""
        found: dict[int, set[int | None]] = {}
        for cpu, registers in ((c, r) for one in snapshots if one["phase"] == phase for c, r in one["cpus"].items()):
            value = registers["EFER"]
            bit = int(value, 16) >> 12 & 1 if isinstance(value, str) else None
            found.setdefault(int(cpu), set()).add(bit)
        return found

    before, created, closed = (svme(phase) for phase in ("before", "created", "closed"))
    if evidence["ioctls"]["KVM_CREATE_VM"] != 0:
        return "no VM was created"
    if evidence["cpus"]["online"] is None:
        return "which CPUs are online is unknown"
    if not there or any(created.get(cpu) != {1} for cpu in there):
        return "SVME was not read as 1 on every CPU while the VM lived"
    if not before or any(before.get(cpu, {None}) & {None} for cpu in there & numbers(evidence["cpus"]["online"])):
        return "SVME was not read before the VM"
    created_pages = [
        registers["VM_HSAVE_PA"]
        for one in snapshots
        for registers in (one["cpus"].values() if one["phase"] == "created" else ())
        if isinstance(registers["VM_HSAVE_PA"], str)
    ]
    several = [one for one in snapshots if one["phase"] == "created"][1:]
    if any(not int(page, 16) or int(page, 16) & 4095 for page in created_pages if not several):
        return "VM_HSAVE_PA was no page while the VM lived"
    if len(set(created_pages)) < len(created_pages) and not several:
        return "VM_HSAVE_PA was the same on two CPUs"
    results: dict[int, set[str]] = {}
    for run in evidence["guest"]:
        result = "refused" if run["result"] == "failed" and run["error"] in OWN_LIMITS else run["result"]
        results.setdefault(run["cpu"], set()).add(result)
    if any(found & {"wrong", "failed", "timeout"} for found in results.values()):
        return "a guest failed"
    if nested_failed(evidence.get("nested")):
        return "a guest in a guest was asked for, and failed or ran nowhere"
    watch = evidence.get("watch") or {"own": True, "calls": []}
    runs = [call for call in watch["calls"] if call["name"] == "KVM_RUN" and call["answer"] == 0]
    ran = not watch["own"] and any(call.get("exit_reason") in GUEST_EXITS for call in runs)
    unchanged = {cpu for cpu in there if 0 not in before.get(cpu, ()) or any(1 in bits for bits in before.values())}
    if not ran and any("ok" not in results.get(cpu, ()) for cpu in unchanged):
        return "SVME was set before the VM, and no guest ran on some CPU"
    events = evidence["uevents"]["events"]
    pids = {event["pid"] for event in events if event["phase"] == "created" and event["event"] == "create"}
    foreign = [event for event in events if not event["ours"] and ({event["pid"]} != pids or len(events) > 2)]
    parameter = ((evidence["modules"] or {}).get("kvm") or {"parameters": {}})["parameters"].get("enable_virt_at_load")
    excused = foreign or evidence["vm_users"] or any((event["count"] or 0) > 1 for event in events)
    stays, was_set = (any(1 in bits for bits in found.values()) for found in (closed, before))
    if stays and not was_set and parameter not in ("Y", "1") and not excused:
        return "SVME was 1 after the last VM"
    return None


def nested_failed(nested: Any) -> bool:
    """Whether --nested was given, and a guest in a guest failed, or none ran to its end."""
    if nested is None:
        return False
    runs = [run for of_paging in nested["runs"].values() for run in of_paging]
    ended = [run for run in runs if run["result"] == "ended"]
    refused = [run for run in runs if run["result"] == "failed" and run["error"] in OWN_LIMITS]
    lost = [run for run in runs if run["result"] not in ("ended", "skipped") and run not in refused]
    wrong = [run for run in ended if "nested" not in run or run["nested"]["exits"] != run["nested"]["expected"]]
    return bool(lost or wrong or not ended)


def usable_veto(evidence: Any) -> str | None:
    """Why this evidence cannot be "usable"; None where nothing forbids it."""
    values = [registers["EFER"] for one in evidence["snapshots"] for registers in one["cpus"].values()]
    modules = evidence["modules"] or {}
    backends = {name for name in modules if name.startswith("kvm_")} | set(modules.get("kvm", {}).get("holders", ()))
    results = [
        "refused" if run["result"] == "failed" and run["error"] in OWN_LIMITS else run["result"]
        for run in evidence["guest"]
    ]
    if evidence["ioctls"]["KVM_CREATE_VM"] != 0:
        return "usable: no VM was created"
    if any(isinstance(value, str) for value in values):
        return "usable: EFER was read"
    if backends != {"kvm_amd"}:
        return "usable: kvm_amd is not the only backend"
    if "ok" not in results or set(results) & {"wrong", "failed", "timeout"}:
        return "usable: no guest ran, or one failed"
    return None


def numbers(cpus: str | None) -> set[int]:
    """ "0-2,4" as a set; an empty one where the list is unknown."""
    pairs = [part.split("-") for part in cpus.split(",")] if cpus else []
    return {cpu for pair in pairs for cpu in range(int(pair[0]), int(pair[-1]) + 1)}


def objection_to(evidence: Any) -> str | None:
    """What is wrong with the verdict, where it is a good one."""
    rule = {"confirmed": veto, "usable": usable_veto}.get(judge(evidence)["verdict"]["status"])
    return rule(evidence) if rule else None


def is_evidence(evidence: Any) -> bool:
    """Whether kvmprobe would read it."""
    try:
        evidence_of(evidence, "mutated")
    except DataProblem:
        return False
    return True


@pytest.mark.parametrize("name", [recorded_name(path) for path in RECORDED])
def test_recorded_evidence_is_confirmed_by_its_registers(name: str) -> None:
    evidence = recorded(name)
    assert objection_to(evidence) is None


@pytest.mark.parametrize(("name", "base", "change", "reason"), VARIANTS, ids=[variant[0] for variant in VARIANTS])
def test_a_variant_is_confirmed_by_its_registers(name: str, base: str, change: Any, reason: str) -> None:
    evidence = recorded(base)
    change(evidence)
    assert objection_to(evidence) is None


def test_the_oracle_vetoes_what_it_should() -> None:
    """Each of its objections occurs, or it would be no oracle."""
    objections = set()
    for _, base, change, _ in VARIANTS:
        evidence = recorded(base)
        change(evidence)
        objections.add(veto(evidence))
        objections.add(usable_veto(evidence))
    assert len(objections - {None}) == 14


def test_mutated_evidence_is_confirmed_by_its_registers(tmp_path: Path) -> None:
    """KVMPROBE_SEED repeats a run, KVMPROBE_CASES makes more cases than the quick tests have time for."""
    seed = int(os.environ.get("KVMPROBE_SEED") or random.SystemRandom().randrange(1 << 32))
    cases = int(os.environ.get("KVMPROBE_CASES") or CASES)
    source = random.Random(seed)
    stored = [recorded(recorded_name(path)) for path in RECORDED]
    good = [evidence for evidence in stored if judge(evidence)["verdict"]["status"] in ("confirmed", "usable")]
    counts = {"confirmed": 0, "usable": 0}
    rules, false = {"confirmed": veto, "usable": usable_veto}, []
    for _ in range(cases):
        evidence = mutated(source.choice(good if source.random() < 0.9 else stored), source)
        status = judge(evidence)["verdict"]["status"]
        if status in counts:
            counts[status] += 1
            objection = rules[status](evidence)
            if objection and is_evidence(evidence):
                false.append((objection, evidence))
    confirmed, usable = counts.values()
    NUMBERS.append(f"oracle: {cases} mutated, {confirmed} confirmed, {usable} usable, {len(false)} false (seed {seed})")
    if false:
        (tmp_path / "false.json").write_text(json.dumps(false[0][1], indent=1))
    assert not false, f"seed {seed}, {tmp_path / 'false.json'}: {sorted({objection for objection, _ in false})}"
    assert confirmed > cases / 20, "the mutations leave too little that is confirmed to be of use"
