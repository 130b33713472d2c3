"""The command `kvmprobe lab matrix`: chooses the cells, shows progress, ends with a table, writes the reports."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from kvmprobe.cli import lab_options, report_arguments
from kvmprobe.formats import SUITE_FORMATS
from kvmprobe.lab import cache, kernels, lab_cases, matrix
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.matrix import LOST, RIGHT, WRONG, Cell, CellResult, Lab
from kvmprobe.lab.scenarios import BY_NAME, SCENARIOS, Scenario
from kvmprobe.model import printable
from kvmprobe.model.errors import EXIT_CONFIRMED, EXIT_FAILED, EXIT_INCONCLUSIVE, UsageProblem
from kvmprobe.report import output, targets
from kvmprobe.report.messages import say
from kvmprobe.report.reading import MATRIX_SUMMARY

DESCRIPTION = """\
Boots every scenario on every kernel, and checks that kvmprobe reports the right
reason. A scenario is a way in which a kernel accepts or refuses SVM. A cell is
one scenario on one kernel. The guests run the programs of the kernel's own
Debian release.
"""
EPILOG = """\
exit status:
  0   kvmprobe reported the right reason in all cells
  1   it reported a wrong reason in a cell
  3   no cell is wrong, but in some the guest did not answer (lost)
"""

_DEADLINE_S = 120.0  # a guest in a guest takes some 20 s; one in thirty hangs, and boots again
_LONGEST = 60  # characters of a cell of the table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kvmprobe lab matrix`."""
    names = " ".join(row.suite for row in kernels.DEBIAN)
    parser.add_argument("--only", metavar="SCENARIO,…", help="boot only these scenarios; 'help' lists them")
    parser.add_argument("--kernels", dest="columns", metavar="KERNEL,…", help=f"boot only these kernels: {names}")
    lab_options.add_own_kernel(parser)
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=int,
        default=os.cpu_count() or 1,
        help="boot N at the same time (default: number of CPUs)",
    )
    parser.add_argument(
        "--reports", metavar="DIR", type=Path, help="write the reports to DIR (default: a new folder in the cache)"
    )
    report_arguments.add_format(parser, ("text", *SUITE_FORMATS))
    report_arguments.add_exit_status(parser, "cells")
    lab_options.add_boot(parser, _DEADLINE_S)


def run(options: argparse.Namespace) -> int:
    """Boot the cells and report. Returns the exit status; raises Problem."""
    if options.guest_arguments:
        raise UsageProblem(
            f"unrecognized arguments: -- {' '.join(options.guest_arguments)}", "The scenarios set kvmprobe's arguments."
        )
    if options.only == "help":
        output.write("".join(f"{row.name:30} {' or '.join(row.expected)}\n" for row in SCENARIOS), None)
        return EXIT_CONFIRMED
    names = options.columns.split(",") if options.columns else []
    _check(options, names)
    rows = _rows(options.only)
    folder: Path = options.cache or cache.default()
    reports = _reports_folder(options, folder)
    columns = list(lab_options.chosen_kernels(options, names or [row.suite for row in kernels.DEBIAN], folder))
    lab = Lab(columns, rows, folder, say)
    started = time.monotonic()
    results = _boot_all(lab, reports, options)
    seconds = time.monotonic() - started
    counts = {verdict: sum(result.verdict == verdict for result in results) for verdict in (RIGHT, WRONG, LOST)}
    if options.format in SUITE_FORMATS:
        text = SUITE_FORMATS[options.format](lab_cases.of_matrix(results, columns, rows))
    else:
        counted = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        text = (
            f"{table(results, columns, rows)}\n\n{counted} of {len(lab.cells)} in {seconds:.0f} s\nreports: {reports}\n"
        )
    output.write_result(text, options)
    if counts[WRONG]:
        return EXIT_FAILED
    return EXIT_CONFIRMED if counts[RIGHT] == len(lab.cells) else EXIT_INCONCLUSIVE


def _check(options: argparse.Namespace, names: list[str]) -> None:
    lab_options.check_boot(options, names)
    if options.kernel is not None and options.modules is None:
        raise UsageProblem("--kernel needs --modules: scenarios load and unload kvm_amd", "Give both.")
    if options.jobs < 1:
        raise UsageProblem(f"--jobs {options.jobs}: not a number of boots", "Give 1 or more.")
    if options.output is not None:
        targets.check_target(options.output)


def _rows(only: str | None) -> list[Scenario]:
    if only is None:
        return list(SCENARIOS)
    names = only.split(",")
    unknown = [name for name in names if name not in BY_NAME]
    if unknown:
        raise UsageProblem(f"unknown scenario {unknown[0]!r}", "'kvmprobe lab matrix --only help' lists them.")
    return [BY_NAME[name] for name in names]


def _reports_folder(options: argparse.Namespace, folder: Path) -> Path:
    if options.reports is None:
        return cache.make_folder(folder / "matrix" / time.strftime("%Y%m%dT%H%M%S"))
    reports: Path = options.reports
    try:
        reports.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageProblem(f"--reports {reports}: {error.strerror}", "Name a folder that can be made.") from error
    return reports


def _boot_all(lab: Lab, reports: Path, options: argparse.Namespace) -> list[CellResult]:
    """Boots all cells, writes each report when its cell ends, and returns the results in the order of the cells."""
    started = time.monotonic()
    results: list[CellResult] = []
    for ended, running in matrix.run_cells(lab.cells, lambda cell: lab.boot(cell, options.deadline), options.jobs):
        for result in ended:
            results.append(result)
            if result.report is not None:
                _write(reports / result.cell.kernel.name / f"{result.cell.scenario.name}.json", result.report)
            say(_progress(results, lab.cells, running, time.monotonic() - started))
    order = {cell: index for index, cell in enumerate(lab.cells)}
    results.sort(key=lambda result: order[result.cell])
    _write(reports / MATRIX_SUMMARY, [result.summary() for result in results])
    return results


def _progress(results: Sequence[CellResult], cells: Sequence[Cell], running: int, seconds: float) -> str:
    result = results[-1]
    done = sum(matrix.weight(ended.cell) for ended in results)
    left = seconds / done * (sum(map(matrix.weight, cells)) - done)
    lost = f", lost before: {result.lost}" if result.lost and result.verdict != LOST else ""
    return (
        f"[{len(results)}/{len(cells)}] {result.cell.name}: {result.verdict}, {result.reason}, "
        f"{result.seconds:.1f} s{lost}; {running} running, about {left / 60:.0f} min left"
    )


def _write(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    output.write(json.dumps(data, indent=1) + "\n", str(path))


def table(results: Sequence[CellResult], columns: Sequence[Kernel], rows: Sequence[Scenario]) -> str:
    """Return a table, scenarios by kernels: the verdict and the reason; "-" if a scenario does not fit a kernel."""
    found = {(result.cell.scenario.name, result.cell.kernel.name): result for result in results}
    lines = [["", *(f"{kernel.name} {kernel.release.split('-')[0]}" for kernel in columns)]]
    for row in rows:
        cells = [found.get((row.name, kernel.name)) for kernel in columns]
        lines.append([row.name, *map(_cell_text, cells)])
    return "\n".join(printable.columns(lines))


def _cell_text(result: CellResult | None) -> str:
    if result is None:
        return "-"
    if result.verdict == RIGHT:
        return f"right {result.reason}"
    return printable.cut(f"{result.verdict.upper()} {printable.clean(result.reason)}", _LONGEST)
