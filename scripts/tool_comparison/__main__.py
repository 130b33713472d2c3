"""Runs kvm-ok, virt-host-validate and kvmprobe in the guests of the matrix and writes docs/other-tools.md.

With --only or --kernels it prints the page of those cells instead.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

# Not this folder: its modules are scripts.tool_comparison.…, and kvmprobe is that of this checkout.
PROJECT = Path(__file__).resolve().parents[2]
sys.path[0] = str(PROJECT)

from kvmprobe.lab import cache, kernels, matrix  # noqa: E402
from kvmprobe.lab.matrix import Lab  # noqa: E402
from kvmprobe.lab.scenarios import BY_NAME, SCENARIOS  # noqa: E402
from kvmprobe.model.errors import Problem  # noqa: E402
from kvmprobe.report.messages import say  # noqa: E402
from scripts.tool_comparison.answers import ToolAnswer, judge  # noqa: E402
from scripts.tool_comparison.guest_run import run_tools  # noqa: E402
from scripts.tool_comparison.page import page  # noqa: E402


def main() -> int:
    """Boots the cells and writes the page. Raises Problem."""
    parser = argparse.ArgumentParser(prog="scripts/other-tools", description=__doc__, allow_abbrev=False)
    parser.add_argument("--only", metavar="SCENARIO,...", help="boot only these scenarios, and print the page")
    parser.add_argument("--kernels", metavar="KERNEL,...", help="boot only these kernels, and print the page")
    parser.add_argument("--jobs", metavar="N", type=int, default=os.cpu_count() or 1, help="boots at the same time")
    options = parser.parse_args()
    names = options.kernels.split(",") if options.kernels else [row.suite for row in kernels.DEBIAN]
    columns = [kernels.fetch(kernels.debian(name), cache.default(), say) for name in names]
    rows = [BY_NAME[name] for name in options.only.split(",")] if options.only else list(SCENARIOS)
    lab = Lab(columns, rows, cache.default(), say)
    results: dict[tuple[str, str], dict[str, ToolAnswer]] = {}
    started = time.monotonic()
    for ended, _ in matrix.run_cells(lab.cells, lambda cell: run_tools(lab, cell), options.jobs):
        for cell, outputs in ended:
            results[cell.scenario.name, cell.kernel.name] = judge(cell.scenario, outputs)
            say(f"[{len(results)}/{len(lab.cells)}] {cell.name}, {time.monotonic() - started:.0f} s")
    text = page(results, rows, names)
    if options.only or options.kernels:
        sys.stdout.write(text)
    else:
        (PROJECT / "docs/other-tools.md").write_text(text)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Problem as problem:
        sys.exit(f"other-tools: {problem.message}. {problem.hint or ''}")
