"""The matrix: its table of scenarios, its results in each format, and its cells on real kernels."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from kvmprobe.cli.lab_matrix import table
from kvmprobe.formats import SUITE_FORMATS
from kvmprobe.lab import cache, lab_cases, matrix
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.matrix import LOST, RIGHT, WRONG, Cell, CellResult, Lab
from kvmprobe.lab.option_rom import option_rom
from kvmprobe.lab.qemu import Machine
from kvmprobe.lab.scenarios import AT_LOAD, BY_NAME, SCENARIOS, Scenario
from kvmprobe.model.reasons import REASONS
from tests.helpers import strict_ktap
from tests.helpers.recorded_evidence import EVIDENCE
from tests.helpers.run_kvmprobe import PROJECT, kvmprobe

# No scenario makes these. tests/helpers/variants.py has evidence for them.
NOT_IN_THE_LAB = {
    "observers-disagree",
    "kvm-without-svm",
    "sev-guest",
    "kvm-device-missing",
    "api-version",
    "create-vm-failed",
    "cpus-disagree",
    "guest-failed",
    "nested-guest-failed",
    "nested-guest-not-run",
    "vm-not-created",
    "msr-unreadable",
    "guest-not-run",
    "soak-step-not-done",
    "resource-leaked",
    "svme-owner-unknown",
    "register-corrupted",
    # given only where something is required
    "requirement-not-met",
    "requirement-unknown",
}


def _kernel(name: str, *parameters: str) -> Kernel:
    return Kernel(name, "6.1.0-test", Path("vmlinux"), Path("base.cpio"), frozenset(parameters), "bookworm")


def test_scenarios_have_unique_names_and_cover_all_reasons() -> None:
    assert len(BY_NAME) == len(SCENARIOS)
    produced = {reason for row in SCENARIOS for reason in (*row.expected, *row.at_load)}
    assert produced | NOT_IN_THE_LAB == set(REASONS)
    assert not produced & NOT_IN_THE_LAB


def test_the_expected_reason_depends_on_the_kernels_parameters() -> None:
    old, new = _kernel("old"), _kernel("new", AT_LOAD)
    assert BY_NAME["epyc"].reasons(old) == ("svme-set-by-create-vm",)
    assert BY_NAME["epyc"].reasons(new) == ("svme-set-at-module-load",)
    assert BY_NAME["no-svm"].reasons(old) == BY_NAME["no-svm"].reasons(new)
    assert not BY_NAME["no-virt-at-load"].applies(old)
    assert BY_NAME["no-virt-at-load"].applies(new)


def test_every_unusable_scenario_has_a_cause() -> None:
    for row in SCENARIOS:
        assert row.usable == (not row.cause), row.name


_FIRMWARE = [row for row in SCENARIOS if row.machine.vm_cr]


@pytest.mark.parametrize("row", _FIRMWARE, ids=lambda row: row.name)
def test_recorded_firmware_scenarios_have_the_registers_of_their_machine(row: Scenario) -> None:
    """One of them has no SVML, as the first CPUs with SVM; all others have it, as every real CPU since 2007."""
    with_svml = "+svm-lock" in row.machine.cpu
    assert with_svml == (row.name != "svmdis-locked-without-svml")
    paths = list((EVIDENCE / "matrix").glob(f"*/{row.name}.json"))
    assert len(paths) == 4
    for path in paths:
        report = json.loads(path.read_text())
        (before, *_) = report["evidence"]["snapshots"]
        assert before["cpus"]["0"]["VM_CR"] == hex(row.machine.vm_cr or 0)
        (*_, edx) = report["evidence"]["cpus"]["cpuid"]["0"]["0x8000000a"]
        assert bool(int(edx, 16) & 1 << 2) == with_svml
        assert report["verdict"]["reason"] == "firmware-disabled"


_OLD, _NEW = _kernel("old"), _kernel("new", AT_LOAD)
_ROWS = [BY_NAME["epyc"], BY_NAME["no-virt-at-load"]]
_RESULTS = [
    CellResult(Cell(_OLD, _ROWS[0]), RIGHT, "svme-set-by-create-vm", 1.0, {}, 0),
    CellResult(Cell(_NEW, _ROWS[0]), WRONG, "svme-not-set", 1.0, {}, 0),
    CellResult(Cell(_NEW, _ROWS[1]), LOST, "timed out", 1.0, None, 2),
]


def test_the_table_shows_right_wrong_lost_and_not_applicable() -> None:
    assert [line.split() for line in table(_RESULTS, [_OLD, _NEW], _ROWS).splitlines()] == [
        ["old", "6.1.0", "new", "6.1.0"],
        ["epyc", "right", "svme-set-by-create-vm", "WRONG", "svme-not-set"],
        ["no-virt-at-load", "-", "LOST", "timed", "out"],
    ]


def test_in_ktap_every_kernel_has_all_scenarios() -> None:
    whole = strict_ktap.parse(SUITE_FORMATS["ktap"](lab_cases.of_matrix(_RESULTS, [_OLD, _NEW], _ROWS)))
    old, new = whole.tests
    assert [(kernel.name, kernel.ok, kernel.names()) for kernel in (old, new)] == [
        ("old", True, ["epyc", "no-virt-at-load"]),
        ("new", False, ["epyc", "no-virt-at-load"]),
    ]
    assert [(test.ok, test.skip) for test in old.tests] == [(True, None), (True, "not-for-this-kernel")]
    assert [test.ok for test in new.tests] == [False, False]
    assert new.tests[0].comments[-1] == "# epyc: svme-not-set, not svme-set-at-module-load"
    assert new.tests[1].comments == ["# no-virt-at-load: timed out", "# no-virt-at-load: boots lost before: 2"]


def test_in_junit_every_kernel_is_a_suite() -> None:
    root = ElementTree.fromstring(SUITE_FORMATS["junit"](lab_cases.of_matrix(_RESULTS, [_OLD, _NEW], _ROWS)))
    counts = [[suite.attrib[name] for name in ("name", "tests", "failures", "errors", "skipped")] for suite in root]
    assert counts == [["old", "2", "0", "0", "1"], ["new", "2", "1", "1", "0"]]


def test_a_kernel_without_a_scenario_is_skipped() -> None:
    (old,) = strict_ktap.parse(SUITE_FORMATS["ktap"](lab_cases.of_matrix([], [_OLD], _ROWS[1:]))).tests
    assert (old.skip, old.names()) == ("nothing-ran", ["no-virt-at-load"])


def test_option_rom() -> None:
    rom = option_rom(0x18)
    assert (len(rom), rom[:3], sum(rom) % 256) == (512, b"\x55\xaa\x01", 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--only", "bogus"),
        ("--kernels", "bogus"),
        ("--jobs", "0"),
        ("--deadline", "-1"),
        ("--kernel", "/x"),
        ("extra",),
        ("--reports", "/proc/x"),
        ("--format", "json"),
        ("--output", "/nonexistent/x"),
    ],
)
def test_wrong_arguments(arguments: tuple[str, ...]) -> None:
    assert kvmprobe("lab", "matrix", *arguments).returncode == 64


def test_only_help_lists_the_scenarios() -> None:
    command = f"{sys.executable} -m kvmprobe lab matrix --only help | true"
    piped = subprocess.run(["bash", "-c", command], capture_output=True, cwd=PROJECT, timeout=60, check=False)
    assert piped.stderr == b""
    listed = kvmprobe("lab", "matrix", "--only", "help").stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(BY_NAME)


@pytest.mark.kernel
def test_a_lost_and_a_wrong_cell_hide_nothing(real_kernel: Callable[[str], Kernel]) -> None:
    kernel = real_kernel("bookworm")
    rows = [
        Scenario("never reaches init", ("vendor-not-amd",), machine=Machine(parameters="rdinit=/nonexistent")),
        Scenario("expects the wrong reason", ("vendor-not-amd",)),
        BY_NAME["epyc"],
    ]
    lab = Lab([kernel], rows, cache.default(), print)
    results = {
        result.cell.scenario.name: result
        for ended, _ in matrix.run_cells(lab.cells, lambda cell: lab.boot(cell, 120), 2)
        for result in ended
    }
    assert [results[row.name].verdict for row in rows] == [LOST, WRONG, RIGHT]
    assert results["never reaches init"].lost == 2
    assert "Kernel panic" in results["never reaches init"].reason
    assert results["expects the wrong reason"].reason == "svme-set-by-create-vm"


@pytest.mark.kernel
def test_the_command_writes_ktap(real_kernel: Callable[[str], Kernel], tmp_path: Path) -> None:
    real_kernel("bookworm")
    result = tmp_path / "result"
    chosen = ("--only", "epyc,no-virt-at-load", "--kernels", "bookworm", "--reports", tmp_path / "reports")
    done = kvmprobe("lab", "matrix", *chosen, "--format", "ktap", "-o", result, deadline=300)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    (bookworm,) = strict_ktap.parse(result.read_text()).tests
    assert [(test.name, test.ok, test.skip) for test in bookworm.tests] == [
        ("epyc", True, None),
        ("no-virt-at-load", True, "not-for-this-kernel"),
    ]


@pytest.mark.kernel
@pytest.mark.matrix
def test_the_whole_matrix(real_kernel: Callable[[str], Kernel], tmp_path: Path) -> None:
    """Every cell is right, and the recorded evidence has the same cells. Other tests keep the CPUs busy meanwhile."""
    real_kernel("bookworm")  # skips or fails if real kernels cannot boot
    done = kvmprobe("lab", "matrix", "--deadline", "600", "--reports", tmp_path, deadline=4000)
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    summary = json.loads((tmp_path / "summary.json").read_text())
    recorded = json.loads((EVIDENCE / "matrix" / "summary.json").read_text())
    assert [(cell["kernel"], cell["scenario"], cell["expected"]) for cell in summary] == [
        (cell["kernel"], cell["scenario"], cell["expected"]) for cell in recorded
    ]
    reports = {path.relative_to(tmp_path) for path in tmp_path.glob("*/*.json")}
    assert reports == {path.relative_to(EVIDENCE / "matrix") for path in (EVIDENCE / "matrix").glob("*/*.json")}
    for path in reports:
        report = json.loads((tmp_path / path).read_text())
        _check_guest_ran_only_with_svme(report["evidence"])
        assert _nested_passed(report) == (True if "--nested" in BY_NAME[path.stem].arguments else None), path


@pytest.mark.parametrize(
    "path", sorted((EVIDENCE / "matrix").glob("*/*.json")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_recorded_scenarios_with_nested_ran_a_guest_in_a_guest(path: Path) -> None:
    """And those without it have no evidence of one."""
    report = json.loads(path.read_text())
    assert _nested_passed(report) == (True if "--nested" in BY_NAME[path.stem].arguments else None)


def _nested_passed(report: Any) -> bool | None:
    """Whether a guest ran in a guest on each CPU, with each kind of paging; None where none was asked for."""
    statuses = {check["id"]: check["status"] for check in report["checks"]}
    assert ("nested" in statuses) == ("nested" in report["evidence"])
    return statuses["nested"] == "pass" if "nested" in statuses else None


def _check_guest_ran_only_with_svme(evidence: object) -> None:
    """The guest ran only on CPUs with SVME: on another CPU VMRUN would oops the kernel."""
    assert isinstance(evidence, dict)
    created: dict[str, Any] = next((s["cpus"] for s in evidence["snapshots"] if s["phase"] == "created"), {})
    read = {cpu: int(registers["EFER"], 16) for cpu, registers in created.items() if isinstance(registers["EFER"], str)}
    for run in evidence["guest"]:
        if read and run["result"] != "skipped":
            assert read[str(run["cpu"])] & 0x1000, run
