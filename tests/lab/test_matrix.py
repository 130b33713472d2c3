"""The matrix: its rows as data, its cells on real kernels, and the whole of it."""

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
from kvmprobe.lab.matrix import LOST, RIGHT, WRONG, Cell, Lab, Result
from kvmprobe.lab.option_rom import option_rom
from kvmprobe.lab.qemu import Machine
from kvmprobe.lab.scenarios import AT_LOAD, BY_NAME, SCENARIOS, Scenario
from kvmprobe.model.reasons import REASONS
from tests.helpers import strict_ktap
from tests.helpers.recorded_evidence import EVIDENCE
from tests.helpers.run_kvmprobe import PROJECT, kvmprobe

# What no emulated machine has: these are judged from evidence changed by hand (tests/variants.py).
NOT_IN_THE_LAB = {
    "witnesses-disagree",
    "kvm-without-svm",  # this very host, where it has such a backend
    "sev-guest",
    "kvm-device-missing",
    "api-version",
    "create-vm-failed",
    "cpus-disagree",
    "guest-failed",
}


def _kernel(name: str, *parameters: str) -> Kernel:
    return Kernel(name, "6.1.0-test", Path("vmlinux"), Path("base.cpio"), frozenset(parameters), "bookworm")


def test_rows_have_names_of_their_own_and_known_reasons() -> None:
    assert len(BY_NAME) == len(SCENARIOS)
    produced = {reason for row in SCENARIOS for reason in (*row.expected, *row.at_load)}
    assert produced | NOT_IN_THE_LAB == set(REASONS)
    assert not produced & NOT_IN_THE_LAB


def test_what_is_expected_depends_on_what_the_kernel_has() -> None:
    old, new = _kernel("old"), _kernel("new", AT_LOAD)
    assert BY_NAME["epyc"].reasons(old) == ("svme-set-by-create-vm",)
    assert BY_NAME["epyc"].reasons(new) == ("svme-set-at-module-load",)
    assert BY_NAME["no-svm"].reasons(old) == BY_NAME["no-svm"].reasons(new)
    assert not BY_NAME["no-virt-at-load"].applies(old)
    assert BY_NAME["no-virt-at-load"].applies(new)


def test_every_no_has_its_cause_written_down() -> None:
    for row in SCENARIOS:
        assert row.usable == (not row.cause), row.name


_OLD, _NEW = _kernel("old"), _kernel("new", AT_LOAD)
_ROWS = [BY_NAME["epyc"], BY_NAME["no-virt-at-load"]]
_RESULTS = [
    Result(Cell(_OLD, _ROWS[0]), RIGHT, "svme-set-by-create-vm", 1.0, {}, 0),
    Result(Cell(_NEW, _ROWS[0]), WRONG, "svme-not-set", 1.0, {}, 0),
    Result(Cell(_NEW, _ROWS[1]), LOST, "timed out", 1.0, None, 2),
]


def test_the_table_shows_right_wrong_lost_and_senseless() -> None:
    assert [line.split() for line in table(_RESULTS, [_OLD, _NEW], _ROWS).splitlines()] == [
        ["old", "6.1.0", "new", "6.1.0"],
        ["epyc", "right", "svme-set-by-create-vm", "WRONG", "svme-not-set"],
        ["no-virt-at-load", "-", "LOST", "timed", "out"],
    ]


def test_as_ktap_every_kernel_has_all_rows() -> None:
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


def test_as_junit_every_kernel_is_a_suite() -> None:
    root = ElementTree.fromstring(SUITE_FORMATS["junit"](lab_cases.of_matrix(_RESULTS, [_OLD, _NEW], _ROWS)))
    counts = [[suite.attrib[name] for name in ("name", "tests", "failures", "errors", "skipped")] for suite in root]
    assert counts == [["old", "2", "0", "0", "1"], ["new", "2", "1", "1", "0"]]


def test_a_kernel_for_which_no_row_is_counts_as_skipped() -> None:
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


def test_only_help_lists_the_rows() -> None:
    command = f"{sys.executable} -m kvmprobe lab matrix --only help | true"
    piped = subprocess.run(["bash", "-c", command], capture_output=True, cwd=PROJECT, timeout=60, check=False)
    assert piped.stderr == b""
    shown = kvmprobe("lab", "matrix", "--only", "help").stdout
    assert [line.split()[0] for line in shown.splitlines()] == list(BY_NAME)


@pytest.mark.kernel
def test_a_lost_and_a_wrong_cell_hide_nothing(real_kernel: Callable[[str], Kernel]) -> None:
    kernel = real_kernel("bookworm")
    rows = [
        Scenario("never reaches init", ("vendor-not-amd",), machine=Machine(parameters="rdinit=/nonexistent")),
        Scenario("expects what is not so", ("vendor-not-amd",)),
        BY_NAME["epyc"],
    ]
    lab = Lab([kernel], rows, cache.default(), print)
    results = {
        result.cell.scenario.name: result
        for ended, _ in matrix.run(lab.cells, lambda cell: lab.boot(cell, 120), 2)
        for result in ended
    }
    assert [results[row.name].verdict for row in rows] == [LOST, WRONG, RIGHT]
    assert results["never reaches init"].lost == 2
    assert "Kernel panic" in results["never reaches init"].reason
    assert results["expects what is not so"].reason == "svme-set-by-create-vm"


@pytest.mark.kernel
def test_the_command_gives_ktap(real_kernel: Callable[[str], Kernel], tmp_path: Path) -> None:
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
    """Every cell is right; and what the cells say now is what the recorded evidence says."""
    real_kernel("bookworm")  # skips, or fails, where there are none
    done = kvmprobe("lab", "matrix", "--reports", tmp_path, deadline=4000)
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    summary = json.loads((tmp_path / "summary.json").read_text())
    recorded = json.loads((EVIDENCE / "matrix" / "summary.json").read_text())
    assert [(cell["kernel"], cell["scenario"], cell["expected"]) for cell in summary] == [
        (cell["kernel"], cell["scenario"], cell["expected"]) for cell in recorded
    ]
    reports = {path.relative_to(tmp_path) for path in tmp_path.glob("*/*.json")}
    assert reports == {path.relative_to(EVIDENCE / "matrix") for path in (EVIDENCE / "matrix").glob("*/*.json")}
    for path in reports:
        _runs_only_where_svme_is_set(json.loads((tmp_path / path).read_text())["evidence"])


def _runs_only_where_svme_is_set(evidence: object) -> None:
    """VMRUN on a CPU without SVME would oops the kernel."""
    assert isinstance(evidence, dict)
    created: dict[str, Any] = next((s["cpus"] for s in evidence["snapshots"] if s["phase"] == "created"), {})
    read = {cpu: int(registers["EFER"], 16) for cpu, registers in created.items() if isinstance(registers["EFER"], str)}
    for run in evidence["guest"]:
        if read and run["result"] != "skipped":
            assert read[str(run["cpu"])] & 0x1000, run
