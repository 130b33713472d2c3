"""Runs several tools in the guests of the matrix and of the causes, stores the outputs, writes docs/other-tools.md.

With --only or --kernels it boots only these guests and keeps the stored outputs of the others.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

# Not this folder: its modules are scripts.tool_comparison.…, and kvmprobe is that of this checkout.
PROJECT = Path(__file__).resolve().parents[2]
sys.path[0] = str(PROJECT)

from kvmprobe.lab import cache, keeper, kernels, matrix  # noqa: E402
from kvmprobe.lab.kernels import Kernel  # noqa: E402
from kvmprobe.lab.matrix import Lab  # noqa: E402
from kvmprobe.lab.scenarios import SCENARIOS  # noqa: E402
from kvmprobe.model.errors import Problem  # noqa: E402
from kvmprobe.report.messages import say  # noqa: E402
from scripts.cause_guests import software  # noqa: E402
from scripts.cause_guests.cases import BY_KERNEL, Case  # noqa: E402
from scripts.tool_comparison import sid_tools, stored_answers  # noqa: E402
from scripts.tool_comparison.guest_run import Outputs, run_case, run_scenario  # noqa: E402
from scripts.tool_comparison.page import page  # noqa: E402

PAGE = PROJECT / "docs/other-tools.md"
KERNELS = [row.suite for row in kernels.DEBIAN]

Job = tuple[tuple[str, str], Callable[[], Outputs]]  # the names of row and kernel, and what boots the guest


def main() -> int:
    """Boots the guests, stores the outputs and writes the page. Raises Problem."""
    parser = argparse.ArgumentParser(prog="scripts/other-tools", description=__doc__, allow_abbrev=False)
    parser.add_argument("--only", metavar="NAME,...", help="boot only these scenarios and causes")
    parser.add_argument("--kernels", metavar="KERNEL,...", default=",".join(KERNELS), help="boot only these kernels")
    parser.add_argument("--jobs", metavar="N", type=int, default=os.cpu_count() or 1, help="boots at the same time")
    parser.add_argument("--no-boot", action="store_true", help="boot nothing: write the page from the stored outputs")
    options = parser.parse_args()
    cells = stored_answers.load()
    if not options.no_boot:
        jobs = _jobs(options.kernels.split(","), options.only.split(",") if options.only else None)
        started, done = time.monotonic(), 0
        for ended, _ in matrix.run_cells(jobs, lambda job: (job[0], job[1]()), options.jobs):
            for key, outputs in ended:
                cells[key] = outputs
                done += 1
                say(f"[{done}/{len(jobs)}] {' '.join(key)}, {time.monotonic() - started:.0f} s")
            if ended:
                stored_answers.save(cells)
    PAGE.write_text(page(cells, KERNELS))
    return 0


def _jobs(names: list[str], only: list[str] | None) -> list[Job]:
    """What is to be booted on the kernels `names`, ready but for the boots."""
    columns = {name: kernels.fetch(kernels.debian(name), cache.default(), say) for name in names}
    tools = sid_tools.fetch()
    rows = [row for row in SCENARIOS if only is None or row.name in only]
    lab = Lab(list(columns.values()), rows, cache.default(), say)
    jobs: list[Job] = []
    for name, kernel in columns.items():
        cases = [case for case in BY_KERNEL.get(name, ()) if only is None or case.cause in only]
        if cases:
            jobs += _case_jobs(kernel, cases, tools)
    for cell in reversed(lab.cells):  # the boots in boots last: several at once take most of the CPUs
        jobs.append(((cell.scenario.name, cell.kernel.name), functools.partial(run_scenario, lab, cell, tools)))
    return jobs


def _case_jobs(kernel: Kernel, cases: list[Case], tools: Path) -> list[Job]:
    space = software.fetch_userspace(kernel)
    with keeper.folder() as work:
        modules = software.module_files(kernel, work / "modules")
    return [
        ((case.cause, kernel.name), functools.partial(run_case, kernel, case, space, modules, tools)) for case in cases
    ]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Problem as problem:
        sys.exit(f"other-tools: {problem.message}. {problem.hint or ''}")
