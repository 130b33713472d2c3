"""Results of the lab as cases, for the formats that render cases (KTAP, JUnit): one suite for each kernel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kvmprobe.formats.harness_cases import ERROR, Case, Suite, of_report
from kvmprobe.judge.check_result import FAIL, PASS, SKIP
from kvmprobe.lab.boot_result import ANSWERED
from kvmprobe.lab.booted_probe import BootedReport
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.matrix import LOST, RIGHT, WRONG, CellResult
from kvmprobe.lab.scenarios import Scenario

_STATUS = {RIGHT: PASS, WRONG: FAIL, LOST: ERROR}


def of_matrix(results: Iterable[CellResult], columns: Sequence[Kernel], rows: Sequence[Scenario]) -> Suite:
    """Returns the matrix as a suite. Every row is a case of every kernel, so all kernels have the same case names."""
    found = {(result.cell.scenario.name, result.cell.kernel.name): result for result in results}
    kernels = [
        Suite(
            kernel.name,
            [_cell_case(row, kernel, found.get((row.name, kernel.name))) for row in rows],
            properties={"kernel": kernel.release},
        )
        for kernel in columns
    ]
    return Suite("kvmprobe-lab-matrix", kernels)


def _cell_case(row: Scenario, kernel: Kernel, result: CellResult | None) -> Case:
    if result is None:
        return Case(row.name, SKIP, skip="not-for-this-kernel")
    message = result.reason
    if result.verdict == WRONG:
        message += f", not {' or '.join(row.reasons(kernel))}"
    more = [f"boots lost before: {result.lost}"] if result.lost else []
    return Case(row.name, _STATUS[result.verdict], message, seconds=result.seconds, more=more)


def of_run(results: Iterable[tuple[Kernel, BootedReport]]) -> Suite:
    """Returns the checks of each kernel as a suite. A kernel without a report is a single error."""
    return Suite("kvmprobe-lab-run", [_kernel_suite(kernel, booted) for kernel, booted in results])


def _kernel_suite(kernel: Kernel, booted: BootedReport) -> Suite:
    if booted.report is not None:
        return of_report(booted.report, kernel.name)
    boot = booted.boot
    answered = boot.outcome == ANSWERED
    message = f"kvmprobe ended with status {boot.status}" if answered else f"{boot.outcome}: {boot.reason}"
    return Suite(kernel.name, [Case("boot", ERROR, message)], properties={"kernel": kernel.release})
