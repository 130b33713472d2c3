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
from kvmprobe.lab.matrix import LOST, RIGHT, WRONG, Cell, Lab, Result
from kvmprobe.lab.scenarios import BY_NAME, SCENARIOS, Scenario
from kvmprobe.model.errors import EXIT_CONFIRMED, EXIT_FAILED, EXIT_INCONCLUSIVE, UsageProblem
from kvmprobe.report import output, targets
from kvmprobe.report.messages import say
from kvmprobe.report.reading import MATRIX_SUMMARY

_DEADLINE_S = 120.0  # six times what a guest in a guest takes; one in some thirty hangs, and is booted again


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `kvmprobe lab matrix`."""
    names = " ".join(row.suite for row in kernels.DEBIAN)
    parser.add_argument("--only", metavar="SCENARIO,…", help="these rows alone; 'help' lists them")
    parser.add_argument("--kernels", dest="columns", metavar="KERNEL,…", help=f"these columns alone: {names}")
    lab_options.add_own_kernel(parser)
    parser.add_argument(
        "--jobs", metavar="N", type=int, default=os.cpu_count() or 1, help="boots at once (as many as CPUs)"
    )
    parser.add_argument("--reports", metavar="DIR", type=Path, help="where the reports go (a new folder in the cache)")
    report_arguments.add_format(parser, ("text", *SUITE_FORMATS))
    lab_options.add_boot(parser, _DEADLINE_S)
    parser.set_defaults(run=main)


def main(chosen: argparse.Namespace) -> int:
    """Runs `kvmprobe lab matrix`. Status 0: all cells ran and were right; 1: some wrong; 3: some lost, none wrong."""
    if chosen.only == "help":
        output.write("".join(f"{row.name:30} {' or '.join(row.expected)}\n" for row in SCENARIOS), None)
        return EXIT_CONFIRMED
    lab_options.check_boot(chosen)
    if chosen.jobs < 1:
        raise UsageProblem(f"--jobs {chosen.jobs}: not a number of boots", "Give 1 or more.")
    if chosen.output is not None:
        targets.check_target(chosen.output)
    rows = _rows(chosen.only)
    folder: Path = chosen.cache or cache.default()
    reports = chosen.reports or folder / "matrix" / time.strftime("%Y%m%dT%H%M%S")
    try:
        reports.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageProblem(f"--reports {reports}: {error.strerror}", "Name a folder that can be made.") from error
    columns = list(_columns(chosen, folder))
    lab = Lab(columns, rows, folder, say)
    started = time.monotonic()
    results: list[Result] = []
    for ended, running in matrix.run(lab.cells, lambda cell: lab.boot(cell, chosen.deadline), chosen.jobs):
        for result in ended:
            results.append(result)
            _keep(result, reports)
            say(_progress(results, lab.cells, running, time.monotonic() - started))
    order = {cell: index for index, cell in enumerate(lab.cells)}
    results.sort(key=lambda result: order[result.cell])
    _write(reports / MATRIX_SUMMARY, [result.summary() for result in results])
    counts = {verdict: sum(result.verdict == verdict for result in results) for verdict in (RIGHT, WRONG, LOST)}
    if chosen.format in SUITE_FORMATS:
        shown = SUITE_FORMATS[chosen.format](lab_cases.of_matrix(results, columns, rows))
    else:
        counted = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        took = f"{counted} of {len(lab.cells)} in {time.monotonic() - started:.0f} s"
        shown = f"{table(results, columns, rows)}\n\n{took}\nreports: {reports}\n"
    output.write_result(shown, chosen)
    if counts[WRONG]:
        return EXIT_FAILED
    return EXIT_CONFIRMED if counts[RIGHT] == len(lab.cells) else EXIT_INCONCLUSIVE


def _rows(only: str | None) -> list[Scenario]:
    if only is None:
        return list(SCENARIOS)
    names = only.split(",")
    unknown = [name for name in names if name not in BY_NAME]
    if unknown:
        raise UsageProblem(f"no scenario is called {unknown[0]!r}", "--only help lists them.")
    return [BY_NAME[name] for name in names]


def _columns(chosen: argparse.Namespace, folder: Path) -> list[Kernel]:
    own = lab_options.own_kernel(chosen, chosen.columns, folder)
    if own is not None:
        return [own]
    rows = [kernels.debian(name) for name in chosen.columns.split(",")] if chosen.columns else kernels.DEBIAN
    return [kernels.fetch(row, folder, say) for row in rows]


def _progress(results: Sequence[Result], cells: Sequence[Cell], running: int, seconds: float) -> str:
    result = results[-1]
    done = sum(matrix.weight(ended.cell) for ended in results)
    left = seconds / done * (sum(map(matrix.weight, cells)) - done)
    again = f", after {result.lost} lost" if result.lost and result.verdict != LOST else ""
    return (
        f"[{len(results)}/{len(cells)}] {result.cell.name}: {result.verdict}, {result.reason}{again}, "
        f"{result.seconds:.1f} s; running {running}, about {left / 60:.0f} min left"
    )


def _keep(result: Result, reports: Path) -> None:
    if result.report is not None:
        _write(reports / result.cell.kernel.name / f"{result.cell.scenario.name}.json", result.report)


def _write(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    output.write(json.dumps(data, indent=1) + "\n", str(path))


def table(results: Sequence[Result], columns: Sequence[Kernel], rows: Sequence[Scenario]) -> str:
    """Kernels by scenarios: right or wrong, with the reasons; "-" where a row makes no sense for a kernel."""
    found = {(result.cell.scenario.name, result.cell.kernel.name): result for result in results}
    lines = [["", *(f"{kernel.name} {kernel.release.split('-')[0]}" for kernel in columns)]]
    for row in rows:
        cells = [found.get((row.name, kernel.name)) for kernel in columns]
        lines.append([row.name, *(_shown(cell) for cell in cells)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def _shown(result: Result | None) -> str:
    if result is None:
        return "-"
    if result.verdict == RIGHT:
        return f"right {result.reason}"
    return f"{result.verdict.upper()} {result.reason}"[:60]
