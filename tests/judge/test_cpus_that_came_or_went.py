"""CPUs that came or went during a probe: what was read of them while the VM lived counts, and they are named."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kvmprobe.formats import nagios, nfd, prometheus, text
from kvmprobe.judge import judge
from kvmprobe.report.stored_report import evidence_of
from tests.helpers.recorded_evidence import recorded
from tests.helpers.variants import AT_LOAD, BASE

PHASES = ("before", "created", "closed")


def registers(evidence: Any, phase: str) -> Any:
    return next(one["cpus"] for one in evidence["snapshots"] if one["phase"] == phase)


def without(evidence: Any, *phases: str, cpu: str = "1") -> None:
    for phase in phases:
        del registers(evidence, phase)[cpu]


def went(evidence: Any) -> None:
    """cpu1 went offline after the VM was created and read."""
    without(evidence, "closed")
    evidence["cpus"]["online_at_end"] = "0"


def came(evidence: Any) -> None:
    """cpu1 came online after the first snapshot."""
    without(evidence, "before")
    evidence["cpus"]["online"] = "0"
    for found in (evidence["cpus"]["cpuid"], evidence["cpus"]["cpuinfo"]):
        del found["1"]


def efer(phase: str, value: Any) -> Callable[[Any], None]:
    return lambda evidence: registers(evidence, phase)["1"].update(EFER=value)


def guest(**fields: Any) -> Callable[[Any], None]:
    return lambda evidence: evidence["guest"][1].update(fields)


def no_guest(evidence: Any) -> None:
    del evidence["guest"][1]


def absent(*phases: str) -> Callable[[Any], None]:
    return lambda evidence: without(evidence, *phases)


def create_vm(answer: Any) -> Callable[[Any], None]:
    return lambda evidence: evidence["ioctls"].update(KVM_CREATE_VM=answer)


def two_of(phase: str, change: Callable[[Any], None]) -> Callable[[Any], None]:
    """A second snapshot of a phase in place of the last; in the second one cpu1 was changed."""

    def add(evidence: Any) -> None:
        copied = json.loads(json.dumps(registers(evidence, phase)))
        change(evidence)
        evidence["snapshots"][2 if phase != "closed" else 1] = {"phase": phase, "cpus": copied}

    return add


def online(**lists: Any) -> Callable[[Any], None]:
    return lambda evidence: evidence["cpus"].update(lists)


# name, recorded evidence, changes, verdict, what the summary names
TABLE: tuple[tuple[str, str, tuple[Callable[[Any], None], ...], str, str], ...] = (
    ("went", BASE, (went,), "svme-set-by-create-vm", "cpu1 came or went"),
    ("went, SVME 0", BASE, (went, efer("created", "0xd01")), "svme-not-set", "cpu1"),
    ("went, EFER unread", BASE, (went, efer("created", {"error": "EIO"})), "msr-unreadable", "cpu1"),
    ("went, guest wrong", BASE, (went, guest(result="wrong")), "guest-failed", "cpu1"),
    ("went, no guest", BASE, (went, no_guest), "svme-set-by-create-vm", "cpu0-1"),
    ("went, at load", AT_LOAD, (went,), "svme-set-at-module-load", "cpu0-1"),
    ("went, at load, no guest", AT_LOAD, (went, no_guest), "guest-not-run", "cpu1"),
    ("went, at load, guest skipped", AT_LOAD, (went, guest(result="skipped")), "guest-not-run", "cpu1"),
    ("went before the VM", BASE, (went, absent("created"), no_guest), "svme-set-by-create-vm", "on cpu0"),
    (
        "went before the VM, SVME 1",
        BASE,
        (went, absent("created"), no_guest, efer("before", "0x1d01")),
        "svme-owner",
        "",
    ),
    ("came", BASE, (came,), "svme-set-by-create-vm", "cpu1 came or went"),
    ("came, SVME 0", BASE, (came, efer("created", "0xd01")), "svme-not-set", "cpu1"),
    ("came, no guest", BASE, (came, no_guest), "guest-not-run", "cpu1"),
    ("came, SVME stays", BASE, (came, efer("closed", "0x1d01")), "svme-not-cleared", "cpu1"),
    ("came after the VM", BASE, (came, absent("created"), no_guest), "svme-set-by-create-vm", "on cpu0"),
    ("in no snapshot", BASE, (absent(*PHASES), no_guest), "msr-unreadable", "cpu1"),
    ("not in before", BASE, (absent("before"),), "msr-unreadable", "before"),
    ("not in created", BASE, (absent("created"), no_guest), "msr-unreadable", "after"),
    ("not in created, guest ran", BASE, (went, absent("created")), "msr-unreadable", "after"),
    ("not in created nor at the end", BASE, (absent("created"), online(online_at_end=None)), "msr-unreadable", "after"),
    ("a third CPU is online", BASE, (online(online="0-2", online_at_end="0-2"),), "msr-unreadable", "cpu2"),
    ("guest on a CPU that nothing lists", BASE, (guest(cpu=7),), "msr-unreadable", "cpu7"),
    ("two created, one SVME 0", BASE, (two_of("created", efer("created", "0xd01")),), "msr-unreadable", "cpu1"),
    ("two created, one lacks cpu1", BASE, (two_of("created", absent("created")),), "svme-set-by-create-vm", "cpu0-1"),
    ("two before, one SVME 1", BASE, (two_of("before", efer("before", "0x1d01")),), "msr-unreadable", "cpu1"),
    ("no VM, null", BASE, (create_vm(None),), "vm-not-created", ""),
    ("no VM, 1", BASE, (create_vm(1),), "vm-not-created", ""),
    ("no VM, -1", BASE, (create_vm(-1),), "vm-not-created", ""),
    ("online unknown", BASE, (online(online=None),), "msr-unreadable", "which other CPUs are online is unknown"),
    ("online unknown, at load", AT_LOAD, (online(online=None, online_at_end=None),), "msr-unreadable", "unknown"),
)


@pytest.mark.parametrize(("name", "base", "changes", "reason", "named"), TABLE, ids=[row[0] for row in TABLE])
def test_what_was_read_while_the_vm_lived_counts(
    name: str, base: str, changes: tuple[Any, ...], reason: str, named: str
) -> None:
    evidence = recorded(base)
    for change in changes:
        change(evidence)
    verdict = judge(evidence_of(evidence, name))["verdict"]
    assert verdict["reason"].startswith(reason), verdict
    assert named in verdict["summary"]


def test_a_cpu_that_went_does_not_hide_from_the_register_table() -> None:
    evidence = recorded(BASE)
    for change in (went, efer("created", "0xd01")):
        change(evidence)
    lines = text.render(judge(evidence)).splitlines()
    row = next(line.split() for line in lines if line.startswith("EFER") and "cpu1" in line)
    assert row == ["EFER", "cpu1", "0xd01", "0xd01", "offline"]


def test_numbers_of_cpus_include_one_that_went() -> None:
    evidence = recorded(BASE)
    for change in (went, efer("created", "0xd01")):
        change(evidence)
    report = judge(evidence)
    assert "cpus=2;;;0 svme_cpus=1;;;0;2" in nagios.render(report)
    assert 'kvmprobe_cpus{state="online"} 2' in prometheus.render(report)
    assert "cpus.online=2" in nfd.render(report).replace("kvmprobe.", "")
    assert "cpus.svme=1" in nfd.render(report)
