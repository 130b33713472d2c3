"""The matrix: its rows as data, its cells on real kernels, and the whole of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.lab import cache, matrix
from kvmprobe.lab.firmware import option_rom
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.matrix import LOST, RIGHT, WRONG, Cell, Lab, Result
from kvmprobe.lab.matrix_run import table
from kvmprobe.lab.qemu import Machine
from kvmprobe.lab.scenarios import AT_LOAD, BY_NAME, SCENARIOS, Scenario
from kvmprobe.reasons import REASONS
from tests.conftest import EVIDENCE, PROJECT, kvmprobe

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


def test_the_table_shows_right_wrong_lost_and_senseless() -> None:
    old, new = _kernel("old"), _kernel("new", AT_LOAD)
    rows = [BY_NAME["epyc"], BY_NAME["no-virt-at-load"]]
    results = [
        Result(Cell(old, rows[0]), RIGHT, "svme-set-by-create-vm", 1.0, {}, 0),
        Result(Cell(new, rows[0]), WRONG, "svme-not-set", 1.0, {}, 0),
        Result(Cell(new, rows[1]), LOST, "timed out", 1.0, None, 2),
    ]
    assert [line.split() for line in table(results, [old, new], rows).splitlines()] == [
        ["old", "6.1.0", "new", "6.1.0"],
        ["epyc", "right", "svme-set-by-create-vm", "WRONG", "svme-not-set"],
        ["no-virt-at-load", "-", "LOST", "timed", "out"],
    ]


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
