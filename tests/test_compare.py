"""What changed between two reports: real ones, real ones with noise or damage, and the folders of a real matrix."""

from __future__ import annotations

import copy
import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvmprobe.compare import AREAS, cases, compare, inputs, run, shown
from kvmprobe.compare.difference import BETTER, CHANGED, NOT_COMPARABLE, SAME, WORSE, Difference
from kvmprobe.errors import DataProblem
from kvmprobe.judge import judge
from tests import strict_ktap
from tests.conftest import EVIDENCE, PROJECT, RECORDED, kvmprobe, recorded, recorded_name
from tests.test_load import ANYTHING, BAD, paths
from tests.variants import VARIANTS, affinity_refused, guest_result

MATRIX = EVIDENCE / "matrix"
KERNELS = sorted(path.name for path in MATRIX.iterdir() if path.is_dir())
NAMES = [recorded_name(path) for path in RECORDED]
SCHEMA = json.loads((PROJECT / "kvmprobe/compare.schema.json").read_text())
SUPPRESS = list(HealthCheck)


def differences(old: Any, new: Any) -> list[Difference]:
    """What is not the same between two pieces of evidence."""
    return [found for found in compare(judge(old), judge(new)) if found.rating != SAME]


def told(old: Any, new: Any) -> set[tuple[str, str, str, str, str]]:
    return {(d.rating, d.area, d.subject, d.was, d.now) for d in differences(old, new)}


@pytest.mark.parametrize("name", NAMES)
def test_a_report_is_the_same_as_itself(name: str) -> None:
    assert told(recorded(name), recorded(name)) == set()
    comparison = inputs.read(str(EVIDENCE / f"{name}.json"), str(EVIDENCE / f"{name}.json"))
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
    head: lines for head, *lines in map(str.splitlines, (PROJECT / "tests/compared.txt").read_text().split("\n\n"))
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
    found = inputs.read(*(str(EVIDENCE / f"{name}.json") for name in (old, new)))
    (rating,) = (d.rating for d in found.pairs[0].differences if d.area == "verdict")
    return rating, found.exit_status()


CONFIRMED, FAILED = "matrix/bookworm/epyc", "matrix/bookworm/held-first"
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


# files and folders


def write(path: Path, evidence: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(evidence))
    return path


@pytest.mark.parametrize(("old", "new"), [*itertools.permutations(KERNELS, 2)])
def test_kernels_pairwise(old: str, new: str) -> None:
    """A newer kernel is never worse than the last one; every scenario of both is compared or named."""
    found = inputs.read(str(MATRIX / old), str(MATRIX / new))
    scenarios = {path.stem for kernel in (old, new) for path in (MATRIX / kernel).iterdir()}
    assert {pair.name for pair in found.pairs} | {single.name for single in found.singles} == scenarios
    ages = ("bullseye", "bookworm", "trixie", "trixie-backports")
    assert found.exit_status() == 0 or ages.index(new) < ages.index(old)
    text = shown.render(found)
    assert all(single.name in text for single in found.singles)


def test_the_whole_matrix_is_the_same_as_itself() -> None:
    done = kvmprobe("compare", MATRIX, MATRIX)
    count = len([path for path in RECORDED if MATRIX in path.parents])
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"SAME: reports: {count} same")


def test_folders_of_one_kernel_each_match_by_scenario(tmp_path: Path) -> None:
    for side, kernel in (("old", "bookworm"), ("new", "trixie")):
        for scenario in ("epyc", "hygon"):
            write(tmp_path / side / kernel / f"{scenario}.json", recorded(f"matrix/{kernel}/{scenario}"))
    found = inputs.read(str(tmp_path / "old"), str(tmp_path / "new"))
    assert [pair.name for pair in found.pairs] == ["epyc", "hygon"]
    assert not found.singles


def test_a_bad_file_hides_neither_the_others_nor_what_is_worse(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        for scenario in ("epyc", "hygon"):
            write(folder / f"{scenario}.json", recorded(f"matrix/bookworm/{scenario}"))
    (new / "hygon.json").write_text("{")
    done = kvmprobe("compare", old, new)
    assert done.returncode == 65
    assert f"{new / 'hygon.json'}: not JSON" in done.stderr
    assert f"not compared: {new / 'hygon.json'}: not JSON" in done.stdout
    assert done.stdout.splitlines()[-1] == "SAME: reports: 1 same; 1 could not be compared"
    write(new / "epyc.json", recorded("matrix/bookworm/held-first"))
    done = kvmprobe("compare", "-q", old, new)
    assert (done.returncode, done.stdout) == (1, "WORSE: reports: 1 worse; 1 could not be compared\n")


def test_a_report_that_the_lab_lost_is_worse_and_one_not_made_is_named(tmp_path: Path) -> None:
    for side in ("old", "new"):
        for scenario in ("epyc", "hygon", "no-npt"):
            write(tmp_path / side / "trixie" / f"{scenario}.json", recorded(f"matrix/trixie/{scenario}"))
    cell = {"kernel": "trixie", "scenario": "hygon", "verdict": "lost", "reason": "timed out: 120 s"}
    write(tmp_path / "new/summary.json", [cell])
    (tmp_path / "new/trixie/no-npt.json").unlink()
    done = kvmprobe("compare", tmp_path / "old", tmp_path / "new")
    assert done.returncode == 0
    assert "[NOT COMPARABLE] trixie/no-npt: is only in OLD, not in NEW" in done.stdout
    (tmp_path / "new/trixie/hygon.json").unlink()
    for old, new, name in (("old", "new", "trixie/hygon"), ("old/trixie", "new/trixie", "hygon")):
        done = kvmprobe("compare", tmp_path / old, tmp_path / new)
        line = f"[    WORSE     ] {name}: is only in OLD, not in NEW (there it was run: lost, timed out: 120 s)"
        assert line in done.stdout
        assert done.returncode == 1
    assert kvmprobe("compare", tmp_path / "new", tmp_path / "old").returncode == 0
    (tmp_path / "new/trixie/epyc.json").unlink()
    done = kvmprobe("compare", "-q", tmp_path / "old", tmp_path / "new")
    assert (done.returncode, done.stdout) == (1, "WORSE: reports: 1 worse, 2 not comparable\n")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((), 64, "required"),
        (("a.json",), 64, "required"),
        (("a.json", "folder"), 64, "OLD a.json is a file, NEW folder is a folder"),
        (("folder", "-"), 64, "NEW - is a file"),
        (("-", "-"), 64, "both"),
        (("a.json", "a.json", "-o", "nowhere/x"), 64, "there is no folder"),
        (("a.json", "b.json"), 65, "b.json: cannot be read: No such file"),
        (("a.json", "bad.json"), 65, "bad.json: not JSON"),
        (("folder", "empty"), 65, "empty: there is no report in it"),
        (("summary", "summary"), 65, "no report is in both (none is in either)"),
        (("folder", "other"), 65, "no report is in both (epyc is only in OLD)"),
    ],
)
def test_wrong_arguments(arguments: tuple[str, ...], status: int, said: str, tmp_path: Path) -> None:
    for name in ("a.json", "folder/epyc.json", "other/x.json"):
        write(tmp_path / name, recorded(CONFIRMED))
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.json").write_text("?")
    cell = {"kernel": "trixie", "scenario": "epyc", "verdict": "lost", "reason": "timed out"}
    write(tmp_path / "summary/summary.json", [cell])
    environment = {"PYTHONPATH": str(PROJECT), "PATH": "/usr/bin:/bin"}
    done = kvmprobe("compare", *arguments, cwd=tmp_path, env=environment, input="")
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_bad_files(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(data)
    good = str(EVIDENCE / f"{CONFIRMED}.json")
    for old, new in ((good, str(tmp_path / "bad.json")), (str(tmp_path / "bad.json"), good)):
        with pytest.raises(DataProblem) as problem:
            inputs.read(old, new)
        assert problem.value.exit_status == 65


def test_standard_input_bare_evidence_and_a_file_for_the_result(tmp_path: Path) -> None:
    new = write(tmp_path / "new.json", recorded(FAILED))
    text = (EVIDENCE / f"{CONFIRMED}.json").read_text()
    done = kvmprobe("compare", "-", new, "-q", "-o", tmp_path / "result", input=text)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert (tmp_path / "result").read_text() == "WORSE: 2 worse, 6 changed, 84 same\n"


def test_verbose_tells_what_is_the_same() -> None:
    path = EVIDENCE / f"{CONFIRMED}.json"
    done = kvmprobe("compare", "-v", path, path)
    assert "[     SAME     ] registers EFER: 0xd01 → 0x1d01 → 0xd01\n" in done.stdout
    assert "was " not in done.stdout


@pytest.mark.parametrize(
    ("old", "new"), [(CONFIRMED, FAILED), ("trace/trixie-load", "trace/bookworm-create"), ("matrix", "matrix")]
)
def test_json_follows_its_schema(old: str, new: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    suffix = "" if old == "matrix" else ".json"
    for verbose in ((), ("-v",)):
        done = kvmprobe("compare", "--json", *verbose, f"{EVIDENCE / old}{suffix}", f"{EVIDENCE / new}{suffix}")
        data = json.loads(done.stdout)
        jsonschema.validate(data, SCHEMA)
        assert (data["rating"] == WORSE) == (done.returncode == 1)
        same = [d for pair in data["pairs"] for d in pair["differences"] if d["rating"] == SAME]
        assert bool(same) == bool(verbose)


def test_cases_are_areas_or_reports() -> None:
    files = [str(EVIDENCE / f"{name}.json") for name in (CONFIRMED, FAILED)]
    found = {case.name: case for case in cases.suite(inputs.read(*files)).cases}
    assert list(found) == list(AREAS)
    assert [name for name, case in found.items() if case.status == "fail"] == ["verdict", "checks"]
    assert found["registers"].more[0].startswith("[   CHANGED    ] registers EFER: was ")
    folders = inputs.read(str(MATRIX / "bookworm"), str(MATRIX / "trixie"))
    found = {case.name: case for case in cases.suite(folders).cases}
    assert (found["epyc"].status, found["no-virt-at-load"].skip) == ("pass", "only-in-new")


def test_ktap_and_junit(tmp_path: Path) -> None:
    """What is worse is not ok; a file that cannot be read is no pass either."""
    pair = [EVIDENCE / f"{name}.json" for name in (CONFIRMED, FAILED)]
    done = kvmprobe("compare", "--format", "ktap", *pair)
    whole = strict_ktap.parse(done.stdout)
    assert whole.names() == list(AREAS)
    assert [test.ok for test in whole.tests[:2]] == [False, False]
    assert done.returncode == 1
    assert all(
        test.ok for test in strict_ktap.parse(kvmprobe("compare", "--format", "ktap", pair[0], pair[0]).stdout).tests
    )
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "epyc.json").write_text("?" if name == "new" else pair[0].read_text())
    done = kvmprobe("compare", "--format", "junit", tmp_path / "old", tmp_path / "new")
    assert done.returncode == 65
    assert "<error" in done.stdout


def test_a_pipe_among_the_reports_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        shutil.copy(EVIDENCE / f"{CONFIRMED}.json", tmp_path / name / "epyc.json")
    os.mkfifo(tmp_path / "new/pipe.json")
    done = kvmprobe("compare", tmp_path / "old", tmp_path / "new")
    assert done.returncode == 65
    assert "pipe.json: is not a file" in done.stderr


def test_colour_marks_what_is_worse() -> None:
    found = inputs.read(*(str(EVIDENCE / f"{name}.json") for name in (CONFIRMED, FAILED)))
    assert "\033[31m[    WORSE     ]\033[0m verdict" in shown.render(found, colour=True)
    assert "\033" not in shown.render(found)


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    evidence = recorded(CONFIRMED)
    evidence["kernel"].update(release="\x1b]0;owned\x07", lockdown="\x1b[2J\ud800")
    write(tmp_path / "folder\x1b/epyc.json", evidence)
    for old, new in ((EVIDENCE / f"{CONFIRMED}.json", tmp_path / "folder\x1b/epyc.json"),):
        done = kvmprobe("compare", old, new)
        assert done.returncode == 0
        assert done.stdout.replace("\n", "").isprintable()
    shutil.copytree(tmp_path / "folder\x1b", tmp_path / "other")
    (tmp_path / "other/epyc.json").write_text("?")
    done = kvmprobe("compare", tmp_path / "folder\x1b", tmp_path / "other")
    assert (done.stdout + done.stderr).replace("\n", "").isprintable()


MUTATED = {name: recorded(name) for name in (CONFIRMED, "trace/trixie-load")}
PLACES = [(name, path) for name, evidence in MUTATED.items() for path in paths(evidence) if path]


@settings(max_examples=400, deadline=None, suppress_health_check=SUPPRESS)
@given(
    place=st.sampled_from(PLACES),
    value=st.just(...) | st.sampled_from([None, "", "0x0", "0", "0-7", {"error": "EIO"}, -1, True, [], {}]) | ANYTHING,
    other=st.sampled_from(NAMES),
)
def test_mutated_evidence_is_compared_or_refused(place: Any, value: Any, other: str, tmp_path_factory: Any) -> None:
    name, path = place
    evidence = copy.deepcopy(MUTATED[name])
    within = evidence
    for step in path[:-1]:
        within = within[step]
    if value is ...:
        del within[path[-1]]
    else:
        within[path[-1]] = value
    file = str(write(tmp_path_factory.getbasetemp() / "compared.json", evidence))
    against = str(EVIDENCE / f"{other}.json")
    try:
        found = [inputs.read(file, against), inputs.read(against, file)]
    except DataProblem:
        return
    for comparison in found:
        assert comparison.exit_status() in (0, 1)
        jsonschema.validate(run.data(comparison, True), SCHEMA)
        assert shown.render(comparison, 1).replace("\n", "").isprintable()
