"""One change of the evidence at a time, and the differences that it makes."""

from __future__ import annotations

from typing import Any

import pytest

from kvmprobe.compare.difference import BETTER, CHANGED, NOT_COMPARABLE, WORSE
from tests.helpers.compared_reports import CONFIRMED, Change, changes, differences
from tests.helpers.recorded_evidence import recorded


def registers(phase: str, name: str, *values: Any) -> Any:
    def change(evidence: Any) -> None:
        for snapshot in evidence["snapshots"]:
            if snapshot["phase"] == phase:
                for cpu, value in enumerate(values):
                    snapshot["cpus"][str(cpu)][name] = value

    return change


def at(*path: Any, value: Any) -> Any:
    def change(evidence: Any) -> None:
        for step in path[:-1]:
            evidence = evidence[step]
        evidence[path[-1]] = value

    return change


def slower(factor: int) -> Any:
    def change(evidence: Any) -> None:
        evidence["duration_ms"] *= factor

    return change


_CPUS_DIFFER = (CHANGED, "checks", "cpus-agree", "pass", "warn")
CORRUPTED = {
    (WORSE, "verdict", "verdict", "confirmed svme-set-by-create-vm", "failed register-corrupted"),
    (WORSE, "checks", "registers", "pass", "fail"),
}
EXTENSIONS = ("ioctls", "KVM_CHECK_EXTENSION")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            registers("created", "VM_HSAVE_PA", "0x7000", "0x7000"),
            {
                *CORRUPTED,
                (WORSE, "registers", "VM_HSAVE_PA", "0x0 -> a page each -> 0x0", "0x0 -> a shared page -> 0x0"),
            },
        ),
        (
            registers("created", "VM_HSAVE_PA", "0x7000", "0x8010"),
            {
                *CORRUPTED,
                (
                    WORSE,
                    "registers",
                    "VM_HSAVE_PA",
                    "0x0 -> a page each -> 0x0",
                    "0x0 -> a page each -> 0x0 on cpu0, 0x0 -> no address of a page -> 0x0 on cpu1",
                ),
            },
        ),
        (
            registers("closed", "VM_HSAVE_PA", "0x7000", "0x8000"),
            {
                *CORRUPTED,
                (WORSE, "registers", "VM_HSAVE_PA", "0x0 -> a page each -> 0x0", "0x0 -> a page each -> a page each"),
            },
        ),
        (
            registers("before", "EFER", "0xd01", {"error": "EIO"}),
            {
                (WORSE, "verdict", "verdict", "confirmed svme-set-by-create-vm", "inconclusive msr-unreadable"),
                (WORSE, "checks", "svme", "pass", "unknown"),
                (WORSE, "checks", "registers", "pass", "unknown"),
                (CHANGED, "checks", "release", "pass", "skip"),
                (
                    NOT_COMPARABLE,
                    "registers",
                    "EFER",
                    "0xd01 -> 0x1d01 -> 0xd01",
                    "0xd01 -> 0x1d01 -> 0xd01 on cpu0, EIO -> 0x1d01 -> 0xd01 on cpu1",
                ),
            },
        ),
        (
            registers("created", "EFER", "0x1d01", "0x5d01"),
            {
                *CORRUPTED,
                (
                    WORSE,
                    "registers",
                    "EFER",
                    "0xd01 -> 0x1d01 -> 0xd01",
                    "0xd01 -> 0x1d01 -> 0xd01 on cpu0, 0xd01 -> 0x5d01 -> 0xd01 on cpu1",
                ),
            },
        ),
        (
            registers("closed", "VM_CR", "0x0", "0x8"),
            {
                *CORRUPTED,
                (WORSE, "registers", "VM_CR", "0x0 throughout", "0x0 throughout on cpu0, 0x0 -> 0x0 -> 0x8 on cpu1"),
            },
        ),
        (at(*EXTENSIONS, "KVM_CAP_NESTED_STATE", value=0), {(WORSE, "features", "KVM_CAP_NESTED_STATE", "4224", "0")}),
        (at(*EXTENSIONS, "KVM_CAP_MAX_VCPUS", value=288), {(CHANGED, "features", "KVM_CAP_MAX_VCPUS", "1024", "288")}),
        (
            at(*EXTENSIONS, "KVM_CAP_XSAVE", value={"error": "EINTR"}),
            {(NOT_COMPARABLE, "features", "KVM_CAP_XSAVE", "1", "EINTR")},
        ),
        (
            at("cpus", "cpuinfo", "1", "microcode", value="0x2"),
            {_CPUS_DIFFER},  # that of the first CPU is compared; CPUs that differ have a check of their own
        ),
        (
            at("cpus", "cpuinfo", "0", "microcode", value="0x2"),
            {_CPUS_DIFFER, (CHANGED, "features", "microcode", "0x1000065", "0x2")},
        ),
        (
            at("cpus", "cpuinfo", "1", "flags", value=["hypervisor", "svm"]),
            {(WORSE, "features", "/proc/cpuinfo npt", "yes", "on cpu0 only")},
        ),
        (at("device", "number", value="10:58"), {(WORSE, "parameters", "/dev/kvm number", "10:232", "10:58")}),
        (at("device", "number", value=None), set()),
        (at("device", "mode", value="0666"), {(WORSE, "parameters", "/dev/kvm mode", "0600", "0666")}),
        (at("device", "mode", value="0604"), {(WORSE, "parameters", "/dev/kvm mode", "0600", "0604")}),
        (at("device", "mode", value="0000"), {(WORSE, "parameters", "/dev/kvm mode", "0600", "0000")}),
        (at("device", "mode", value="0660"), {(BETTER, "parameters", "/dev/kvm mode", "0600", "0660")}),
        (at("device", "mode", value="2600"), {(CHANGED, "parameters", "/dev/kvm mode", "0600", "2600")}),
        (at("device", "mode", value="rw"), {(CHANGED, "parameters", "/dev/kvm mode", "0600", "rw")}),
        (at("device", "mode", value=None), set()),
        (at("kernel", "lockdown", value="integrity"), {(CHANGED, "parameters", "lockdown", "none", "integrity")}),
        (at("modules", "kvm_amd", "parameters", "nested", value="Y"), set()),
        (
            at("modules", "kvm_amd", "parameters", "nested", value="0"),
            {
                (CHANGED, "parameters", "kvm_amd.nested", "1", "0"),
                (WORSE, "features", "kvm_amd nested", "in effect", "not in effect"),
            },
        ),
        (
            at("modules", "vboxdrv", value={"state": "live", "refcount": 0, "holders": [], "parameters": {}}),
            {(CHANGED, "parameters", "module vboxdrv", "absent", "live")},
        ),
        (slower(5), {(CHANGED, "timing", "probe", "about 2 s", "about 8 s")}),
        (slower(2), set()),
    ],
)
def test_one_change(change: Any, expected: set[Change]) -> None:
    evidence = recorded(CONFIRMED)
    change(evidence)
    assert changes(recorded(CONFIRMED), evidence) == expected


@pytest.mark.parametrize(
    ("was", "now", "rating"),
    [
        ("0660", "0600", WORSE),
        ("0666", "0600", WORSE),
        ("0600", "0666", WORSE),
        ("0660", "0606", WORSE),
        ("0666", "0660", BETTER),
        ("0600", "0660", BETTER),
        ("0660", "1660", CHANGED),
    ],
)
def test_a_mode_that_opens_kvm_to_all_or_takes_it_away_is_worse(was: str, now: str, rating: str) -> None:
    old, new = recorded(CONFIRMED), recorded(CONFIRMED)
    old["device"]["mode"], new["device"]["mode"] = was, now
    assert changes(old, new) == {(rating, "parameters", "/dev/kvm mode", was, now)}


def test_a_trace_without_a_step_on_one_cpu() -> None:
    evidence = recorded("trace/bookworm-create")
    evidence["trace"]["entries"] = [
        entry
        for entry in evidence["trace"]["entries"]
        if (entry["cpu"], entry["function"]) != (1, "svm_hardware_enable")
    ]
    found = changes(recorded("trace/bookworm-create"), evidence)
    assert found == {(CHANGED, "trace", "svm_hardware_enable", "create on every CPU", "create on cpu0")}


def test_a_trace_that_lost_entries_is_not_compared() -> None:
    evidence = recorded("trace/bookworm-create")
    evidence["trace"].update(lost={"1": 7}, entries=[])
    found = changes(recorded("trace/bookworm-create"), evidence)
    assert (NOT_COMPARABLE, "trace", "entries", "complete", "lost on cpu1") in found
    assert len([one for one in found if one[1] == "trace"]) == 1


def test_a_trace_of_another_order_of_magnitude() -> None:
    evidence = recorded("trace/bookworm-create")
    for entry in evidence["trace"]["entries"]:
        entry["seconds"] *= 10
    assert changes(recorded("trace/bookworm-create"), evidence) == {
        (CHANGED, "timing", "KVM_CREATE_VM in the trace", "about 3 ms", "about 30 ms"),
        (CHANGED, "timing", "closing the VM in the trace", "about 50 ms", "about 500 ms"),
    }


def test_times_of_different_work_are_not_compared() -> None:
    found = differences(recorded("matrix/trixie/epyc"), recorded("trace/trixie-create"))
    assert [(one.rating, one.subject, one.was, one.now, one.note) for one in found if one.area == "timing"] == [
        (NOT_COMPARABLE, "probe", "about 1 s", "about 5 s", "only one has a trace")
    ]
