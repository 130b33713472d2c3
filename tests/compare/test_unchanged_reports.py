"""Two reports of the same host, kernel and configuration are the same, whatever differs from run to run."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmprobe.compare import compare, report_pairs
from kvmprobe.compare.difference import BETTER, CHANGED, NOT_COMPARABLE, SAME, WORSE
from kvmprobe.judge import judge
from tests.helpers.compared_reports import KERNELS, NAMES, changes, differences
from tests.helpers.recorded_evidence import EVIDENCE, recorded


@pytest.mark.parametrize("name", NAMES)
def test_a_report_is_the_same_as_itself(name: str) -> None:
    assert changes(recorded(name), recorded(name)) == set()
    comparison = report_pairs.read(str(EVIDENCE / f"{name}.json"), str(EVIDENCE / f"{name}.json"))
    assert (comparison.rating, comparison.exit_status()) == (SAME, 0)


def run_again(evidence: Any, draw: Any) -> None:
    """Changes everything that differs between two runs of the same on the same machine."""
    number = st.integers(1, 1 << 20)
    pids, page, shift = draw(number), draw(number) << 12, draw(st.floats(0, 1e6))
    scale = draw(st.floats(0.6, 1.6))
    evidence["taken_at"] = "2027-01-01T00:00:00Z"
    evidence["duration_ms"] *= scale
    evidence["host"]["name"] = draw(st.text(max_size=8))
    evidence["kernel"]["version"] = draw(st.text(max_size=8))
    for line in evidence["log"]["lines"]:
        line["seconds"] += shift
    for process in [*evidence["uevents"]["events"], *(evidence["vm_users"] or ())]:
        process["pid"] += pids
    for event in evidence["uevents"]["events"]:
        event["created"] += pids
    for cpu, leaves in evidence["cpus"]["cpuid"].items():
        if isinstance(leaves.get("0x1"), list):
            leaves["0x1"][1] = hex(int(cpu) << 24 | draw(st.integers(0, 0xFFFFFF)))  # the APIC ID
    for guest in evidence["guest"]:
        if guest["result"] == "ok":
            guest["detail"] = f"wrote {draw(number)} and halted"
    for name, module in (evidence["modules"] or {}).items():
        if name != "kvm_amd":  # its reference count shows whether other VMs are alive
            module["refcount"] = draw(number)
    for snapshot in evidence["snapshots"]:
        for registers in snapshot["cpus"].values():
            registers["VM_HSAVE_PA"] = moved(registers["VM_HSAVE_PA"], page)
    if "trace" in evidence:
        trace_again(evidence["trace"], pids, page, scale, draw(st.booleans()))


def trace_again(trace: Any, pids: int, page: int, scale: float, other_cpu: bool) -> None:
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


@settings(max_examples=300)
@given(name=st.sampled_from(NAMES), data=st.data())
def test_another_run_is_the_same(name: str, data: Any) -> None:
    evidence = recorded(name)
    run_again(evidence, data.draw)
    assert changes(recorded(name), evidence) == set()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_check_and_a_trace_of_the_same_kernel_differ_in_the_trace_only(kernel: str) -> None:
    """Two recorded runs, on different days."""
    found = changes(recorded(f"matrix/{kernel}/epyc"), recorded(f"trace/{kernel}-create"))
    assert {one for one in found if one[1] != "timing"} == {
        (CHANGED, "checks", "observers", "not applied", "pass"),
        (NOT_COMPARABLE, "trace", "trace", "not taken", "taken"),
    }


def test_notes_contain_no_pids_and_addresses() -> None:
    old, new = recorded("trace/bookworm-create"), recorded("trace/bookworm-create")
    for entry in new["trace"]["entries"]:
        if (entry["cpu"], entry["register"], entry["phase"]) == (1, "VM_HSAVE_PA", "create"):
            entry["value"] = "0x1234000"
    notes = [one.note for one in differences(old, new)]
    assert any("VM_HSAVE_PA written a page" in note for note in notes), notes
    assert not any("0x1234000" in note for note in notes)


MIRRORED = {WORSE: BETTER, BETTER: WORSE, CHANGED: CHANGED, SAME: SAME, NOT_COMPARABLE: NOT_COMPARABLE}


@settings(max_examples=200)
@given(old=st.sampled_from(NAMES), new=st.sampled_from(NAMES))
def test_swapped_reports_have_mirrored_differences(old: str, new: str) -> None:
    one, other = judge(recorded(old)), judge(recorded(new))
    forward = {(found.area, found.subject): found for found in compare(one, other)}
    backward = {(found.area, found.subject): found for found in compare(other, one)}
    assert forward.keys() == backward.keys()
    for key, found in forward.items():
        mirrored = backward[key]
        assert (found.was, found.now) == (mirrored.now, mirrored.was)
        if {found.rating, mirrored.rating} == {WORSE, NOT_COMPARABLE}:  # from failed to unknown is not better
            assert key[0] in ("verdict", "checks")
        elif found.rating == mirrored.rating == WORSE:  # one opens it to everybody, one takes it from the group
            assert key == ("parameters", "/dev/kvm mode")
        else:
            assert mirrored.rating == MIRRORED[found.rating]
