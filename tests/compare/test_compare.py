"""What changed between two reports: real ones, real ones with noise or damage, and the folders of a real matrix."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmprobe.compare import compare, report_pairs
from kvmprobe.compare.difference import BETTER, CHANGED, NOT_COMPARABLE, SAME, WORSE, Difference
from kvmprobe.judge import judge
from tests.helpers.compared_reports import CONFIRMED, FAILED, KERNELS, MATRIX, NAMES, SUPPRESS
from tests.helpers.judged_variants import VARIANTS
from tests.helpers.recorded_evidence import EVIDENCE, recorded
from tests.helpers.run_kvmprobe import PROJECT, kvmprobe
from tests.helpers.variants import affinity_refused, guest_result


def differences(old: Any, new: Any) -> list[Difference]:
    """What is not the same between two pieces of evidence."""
    return [found for found in compare(judge(old), judge(new)) if found.rating != SAME]


def told(old: Any, new: Any) -> set[tuple[str, str, str, str, str]]:
    return {(d.rating, d.area, d.subject, d.was, d.now) for d in differences(old, new)}


@pytest.mark.parametrize("name", NAMES)
def test_a_report_is_the_same_as_itself(name: str) -> None:
    assert told(recorded(name), recorded(name)) == set()
    comparison = report_pairs.read(str(EVIDENCE / f"{name}.json"), str(EVIDENCE / f"{name}.json"))
    assert (comparison.rating, comparison.exit_status()) == (SAME, 0)


def noisy(evidence: Any, draw: Any) -> None:
    """Another run of the same on the same machine: changes all that means nothing."""
    number = st.integers(1, 1 << 20)
    pids, page, shift = draw(number), draw(number) << 12, draw(st.floats(0, 1e6))
    scale = draw(st.floats(0.6, 1.6))
    evidence["taken_at"] = "2027-01-01T00:00:00Z"
    evidence["duration_ms"] *= scale
    evidence["host"]["name"] = draw(st.text(max_size=8))
    evidence["kernel"]["version"] = draw(st.text(max_size=8))
    for line in evidence["log"]["lines"]:
        line["seconds"] += shift
    for who in [*evidence["uevents"]["events"], *(evidence["vm_users"] or ())]:
        who["pid"] += pids
    for event in evidence["uevents"]["events"]:
        event["created"] += pids
    for cpu, leaves in evidence["cpus"]["cpuid"].items():
        if isinstance(leaves.get("0x1"), list):
            leaves["0x1"][1] = hex(int(cpu) << 24 | draw(st.integers(0, 0xFFFFFF)))  # the APIC ID
    for guest in evidence["guest"]:
        if guest["result"] == "ok":
            guest["detail"] = f"wrote {draw(number)} and halted"
    for name, module in (evidence["modules"] or {}).items():
        if name != "kvm_amd":  # whose users show that VMs of others are alive
            module["refcount"] = draw(number)
    for snapshot in evidence["snapshots"]:
        for registers in snapshot["cpus"].values():
            registers["VM_HSAVE_PA"] = moved(registers["VM_HSAVE_PA"], page)
    if "trace" in evidence:
        noisy_trace(evidence["trace"], pids, page, scale, draw(st.booleans()))


def noisy_trace(trace: Any, pids: int, page: int, scale: float, other_cpu: bool) -> None:
    for entry in trace["entries"]:
        entry["seconds"] *= scale
        entry["pid"] += pids
        entry["task"] += "x"
        if entry["register"] == "VM_HSAVE_PA":
            entry["value"] = moved(entry["value"], page)
        if entry["function"] in ("kvm_dev_ioctl", "kvm_vm_release", "kvm_put_kvm", "kvm_destroy_vm", "svm_init"):
            entry["cpu"] = int(other_cpu)
    trace["entries"].sort(key=lambda entry: entry["cpu"], reverse=other_cpu)


def moved(address: Any, by: int) -> Any:
    return hex(int(address, 16) + by) if isinstance(address, str) and address != "0x0" else address


@settings(max_examples=300, deadline=None, suppress_health_check=SUPPRESS)
@given(name=st.sampled_from(NAMES), data=st.data())
def test_noise_does_not_show(name: str, data: Any) -> None:
    evidence = recorded(name)
    noisy(evidence, data.draw)
    assert told(recorded(name), evidence) == set()


@pytest.mark.parametrize("kernel", KERNELS)
def test_two_real_runs_of_the_same_differ_only_in_who_looked(kernel: str) -> None:
    """A check of the matrix, and one taken another day with the trace running."""
    found = told(recorded(f"matrix/{kernel}/epyc"), recorded(f"trace/{kernel}-create"))
    assert {difference for difference in found if difference[1] != "timing"} == {
        (CHANGED, "checks", "witnesses", "not made", "pass"),
        (NOT_COMPARABLE, "trace", "trace", "not taken", "taken"),
    }


# Real pairs: OLD, NEW and the exit status, and the lines that say what changed.
PAIRS = {
    head: lines
    for head, *lines in map(str.splitlines, (PROJECT / "tests/compare/compared.txt").read_text().split("\n\n"))
}


@pytest.mark.parametrize("pair", PAIRS)
def test_real_pairs(pair: str) -> None:
    old, new, status = pair.split()
    done = kvmprobe("compare", EVIDENCE / f"{old}.json", EVIDENCE / f"{new}.json")
    assert [line for line in done.stdout.splitlines() if line.startswith("[")] == PAIRS[pair]
    assert (done.returncode, done.stderr) == (int(status), "")


def test_the_readme_shows_a_real_comparison(tmp_path: Path) -> None:
    shutil.copy(MATRIX / "bookworm/epyc.json", tmp_path / "last-good.json")
    shutil.copy(MATRIX / "bookworm/held-first.json", tmp_path / "now.json")
    environment = {"PYTHONPATH": str(PROJECT)}
    done = kvmprobe("compare", "last-good.json", "now.json", cwd=tmp_path, env=environment)
    assert f"```\n{done.stdout}```\n" in (PROJECT / "README.md").read_text()


def verdicts(old: str, new: str) -> tuple[str, int]:
    """How the verdict's change is rated, and the exit status."""
    found = report_pairs.read(*(str(EVIDENCE / f"{name}.json") for name in (old, new)))
    (rating,) = (d.rating for d in found.pairs[0].differences if d.area == "verdict")
    return rating, found.exit_status()


INCONCLUSIVE, NOT_APPLICABLE = "matrix/bookworm/no-msr-device", "hosts/kvm-pvm-without-svm"


@pytest.mark.parametrize(
    ("old", "new", "rating"),
    [
        (CONFIRMED, FAILED, WORSE),
        (CONFIRMED, INCONCLUSIVE, WORSE),
        (CONFIRMED, NOT_APPLICABLE, WORSE),
        (NOT_APPLICABLE, INCONCLUSIVE, WORSE),
        (INCONCLUSIVE, FAILED, WORSE),
        (FAILED, CONFIRMED, BETTER),
        (INCONCLUSIVE, CONFIRMED, BETTER),
        (NOT_APPLICABLE, CONFIRMED, BETTER),
        (FAILED, INCONCLUSIVE, NOT_COMPARABLE),
        (FAILED, NOT_APPLICABLE, NOT_COMPARABLE),
        (INCONCLUSIVE, NOT_APPLICABLE, NOT_COMPARABLE),
        ("matrix/bookworm/another-vm", CONFIRMED, CHANGED),
        ("matrix/bookworm/not-loaded", FAILED, CHANGED),
    ],
)
def test_verdicts(old: str, new: str, rating: str) -> None:
    found, status = verdicts(old, new)
    assert found == rating
    assert status == 1 or rating != WORSE


def test_what_failed_and_is_unknown_is_not_called_better() -> None:
    assert verdicts(FAILED, "matrix/bookworm/ordinary-user")[0] == NOT_COMPARABLE
    found = differences(recorded(FAILED), recorded("matrix/bookworm/ordinary-user"))
    assert all(d.rating != BETTER for d in found if d.area in ("verdict", "checks"))


@pytest.mark.parametrize(("name", "base", "change", "reason"), VARIANTS, ids=[row[0] for row in VARIANTS])
def test_every_way_to_fail_is_worse_than_to_work(name: str, base: str, change: Any, reason: str) -> None:
    evidence = recorded(base)
    change(evidence)
    found = {(d.area, d.rating) for d in differences(recorded(base), evidence)}
    if judge(evidence)["verdict"]["status"] == "confirmed":
        assert ("verdict", WORSE) not in found
    else:
        assert ("verdict", WORSE) in found, reason


MIRRORED = {WORSE: BETTER, BETTER: WORSE, CHANGED: CHANGED, SAME: SAME, NOT_COMPARABLE: NOT_COMPARABLE}


@settings(max_examples=200, deadline=None, suppress_health_check=SUPPRESS)
@given(old=st.sampled_from(NAMES), new=st.sampled_from(NAMES))
def test_swapped_arguments_mirror(old: str, new: str) -> None:
    one, other = judge(recorded(old)), judge(recorded(new))
    there = {(d.area, d.subject): d for d in compare(one, other)}
    back = {(d.area, d.subject): d for d in compare(other, one)}
    assert there.keys() == back.keys()
    for key, found in there.items():
        mirrored = back[key]
        assert (found.was, found.now) == (mirrored.now, mirrored.was)
        if {found.rating, mirrored.rating} == {WORSE, NOT_COMPARABLE}:  # what is not known to be good is not better
            assert key[0] in ("verdict", "checks")
        else:
            assert mirrored.rating == MIRRORED[found.rating]


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


def slower(evidence: Any) -> None:
    evidence["duration_ms"] *= 5


def twice_as_slow(evidence: Any) -> None:
    evidence["duration_ms"] *= 2


CAPS = ("ioctls", "KVM_CHECK_EXTENSION")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            registers("created", "VM_HSAVE_PA", "0x7000", "0x7000"),
            {(WORSE, "registers", "VM_HSAVE_PA", "0x0 → a page each → 0x0", "0x0 → a shared page → 0x0")},
        ),
        (
            registers("before", "EFER", "0xd01", {"error": "EIO"}),
            {
                (WORSE, "verdict", "verdict", "confirmed svme-set-by-create-vm", "inconclusive msr-unreadable"),
                (WORSE, "checks", "svme", "pass", "unknown"),
                (CHANGED, "checks", "release", "pass", "skip"),
                (
                    NOT_COMPARABLE,
                    "registers",
                    "EFER",
                    "0xd01 → 0x1d01 → 0xd01",
                    "0xd01 → 0x1d01 → 0xd01 on cpu0, EIO → 0x1d01 → 0xd01 on cpu1",
                ),
            },
        ),
        (at(*CAPS, "KVM_CAP_NESTED_STATE", value=0), {(WORSE, "features", "KVM_CAP_NESTED_STATE", "4224", "0")}),
        (at(*CAPS, "KVM_CAP_MAX_VCPUS", value=288), {(CHANGED, "features", "KVM_CAP_MAX_VCPUS", "1024", "288")}),
        (
            at(*CAPS, "KVM_CAP_XSAVE", value={"error": "EINTR"}),
            {(NOT_COMPARABLE, "features", "KVM_CAP_XSAVE", "1", "EINTR")},
        ),
        (
            at("cpus", "cpuinfo", "1", "microcode", value="0x2"),
            set(),  # it is told of the first CPU; what differs between CPUs has a check
        ),
        (
            at("cpus", "cpuinfo", "0", "microcode", value="0x2"),
            {(CHANGED, "features", "microcode", "0x1000065", "0x2")},
        ),
        (
            at("cpus", "cpuinfo", "1", "flags", value=["hypervisor", "svm"]),
            {(WORSE, "features", "/proc/cpuinfo npt", "yes", "on cpu0 only")},
        ),
        (at("kernel", "lockdown", value="integrity"), {(CHANGED, "parameters", "lockdown", "none", "integrity")}),
        (at("modules", "kvm_amd", "parameters", "nested", value="Y"), set()),
        (
            at("modules", "kvm_amd", "parameters", "nested", value="0"),
            {(CHANGED, "parameters", "kvm_amd.nested", "1", "0")},
        ),
        (
            at("modules", "vboxdrv", value={"state": "live", "refcount": 0, "holders": [], "parameters": {}}),
            {(CHANGED, "parameters", "module vboxdrv", "not there", "live")},
        ),
        (slower, {(CHANGED, "timing", "probe", "about 2 s", "about 8 s")}),
        (twice_as_slow, set()),
    ],
)
def test_one_change(change: Any, expected: set[tuple[str, str, str, str, str]]) -> None:
    evidence = recorded(CONFIRMED)
    change(evidence)
    assert told(recorded(CONFIRMED), evidence) == expected


def test_a_trace_without_a_step_on_one_cpu() -> None:
    evidence = recorded("trace/bookworm-create")
    evidence["trace"]["entries"] = [
        entry
        for entry in evidence["trace"]["entries"]
        if (entry["cpu"], entry["function"]) != (1, "svm_hardware_enable")
    ]
    found = told(recorded("trace/bookworm-create"), evidence)
    assert found == {(CHANGED, "trace", "svm_hardware_enable", "create on every CPU", "create on cpu0")}


def test_a_trace_that_lost_entries_is_not_compared() -> None:
    evidence = recorded("trace/bookworm-create")
    evidence["trace"].update(lost={"1": 7}, entries=[])
    found = told(recorded("trace/bookworm-create"), evidence)
    assert (NOT_COMPARABLE, "trace", "entries", "complete", "lost on cpu1") in found
    assert len([difference for difference in found if difference[1] == "trace"]) == 1


def test_a_trace_of_another_order_of_magnitude() -> None:
    evidence = recorded("trace/bookworm-create")
    for entry in evidence["trace"]["entries"]:
        entry["seconds"] *= 10
    assert told(recorded("trace/bookworm-create"), evidence) == {
        (CHANGED, "timing", "KVM_CREATE_VM in the trace", "about 3 ms", "about 30 ms"),
        (CHANGED, "timing", "closing the VM in the trace", "about 50 ms", "about 500 ms"),
    }


def test_times_of_other_work_are_not_compared() -> None:
    found = differences(recorded("matrix/trixie/epyc"), recorded("trace/trixie-create"))
    assert [(d.rating, d.subject, d.was, d.now, d.note) for d in found if d.area == "timing"] == [
        (NOT_COMPARABLE, "probe", "about 1 s", "about 5 s", "a trace in one only")
    ]


def test_a_warning_counts_as_a_pass() -> None:
    warned, failed = recorded(CONFIRMED), recorded(CONFIRMED)
    affinity_refused(warned)
    guest_result("failed", "EIO")(failed)
    assert (CHANGED, "checks", "guest", "pass", "warn") in told(recorded(CONFIRMED), warned)
    assert (WORSE, "checks", "guest", "warn", "fail") in told(warned, failed)
    assert (BETTER, "checks", "guest", "fail", "warn") in told(failed, warned)


def test_pids_and_pages_are_not_told_in_notes() -> None:
    old, new = recorded("trace/bookworm-create"), recorded("trace/bookworm-create")
    for entry in new["trace"]["entries"]:
        if (entry["cpu"], entry["register"], entry["phase"]) == (1, "VM_HSAVE_PA", "create"):
            entry["value"] = "0x1234000"
    notes = [d.note for d in differences(old, new)]
    assert any("VM_HSAVE_PA written a page" in note for note in notes)
    assert not any("0x1234000" in note for note in notes)
