"""What the lab found as cases, for the formats that render these: a suite for each kernel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kvmprobe.formats.harness_cases import ERROR, Case, Suite, of_report
from kvmprobe.judge.check_result import FAIL, PASS, SKIP
from kvmprobe.lab.booted_probe import Answer
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.matrix import LOST, RIGHT, WRONG, Result
from kvmprobe.lab.outcome import ANSWERED
from kvmprobe.lab.scenarios import Scenario

_STATUS = {RIGHT: PASS, WRONG: FAIL, LOST: ERROR}


def of_matrix(results: Iterable[Result], columns: Sequence[Kernel], rows: Sequence[Scenario]) -> Suite:
    """Every row is a case of every kernel, so that the names are the same in all of them."""
    found = {(result.cell.scenario.name, result.cell.kernel.name): result for result in results}
    kernels = [
        Suite(
            kernel.name,
            [_case(row, kernel, found.get((row.name, kernel.name))) for row in rows],
            properties={"kernel": kernel.release},
        )
        for kernel in columns
    ]
    return Suite("kvmprobe-lab-matrix", kernels)


def _case(row: Scenario, kernel: Kernel, result: Result | None) -> Case:
    if result is None:
        return Case(row.name, SKIP, skip="not-for-this-kernel")
    message = result.reason
    if result.verdict == WRONG:
        message += f", not {' or '.join(row.reasons(kernel))}"
    more = [f"boots lost before: {result.lost}"] if result.lost else []
    return Case(row.name, _STATUS[result.verdict], message, seconds=result.seconds, more=more)


def of_run(answers: Iterable[tuple[Kernel, Answer]]) -> Suite:
    """The checks of each kernel; one that gave no report is a single error."""
    return Suite("kvmprobe-lab-run", [_of_answer(kernel, answer) for kernel, answer in answers])


def _of_answer(kernel: Kernel, answer: Answer) -> Suite:
    if answer.report is not None:
        return of_report(answer.report, kernel.name)
    boot = answer.boot
    said = f"kvmprobe ended with status {boot.status}" if boot.outcome == ANSWERED else f"{boot.outcome}: {boot.reason}"
    return Suite(kernel.name, [Case("boot", ERROR, said)], properties={"kernel": kernel.release})
