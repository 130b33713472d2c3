"""Boots all scenarios on all kernels, several at once. A cell that is lost or wrong never hides the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kvmprobe.lab import kernels, nested_boot, qemu, userspace
from kvmprobe.lab.boot_result import ANSWERED
from kvmprobe.lab.booted_probe import BootedReport, Guest, probe
from kvmprobe.lab.external_programs import Say
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.scenarios import Scenario
from kvmprobe.lab.userspace import Userspace
from kvmprobe.model.errors import Problem

_TRIES = 2  # a lost guest shows nothing about kvmprobe, so it boots again; the result counts the lost boots
_TICK_S = 1.0

C = TypeVar("C")
T = TypeVar("T")

RIGHT, WRONG, LOST = "right", "wrong", "lost"


@dataclass(frozen=True)
class Cell:
    """A scenario on a kernel."""

    kernel: Kernel
    scenario: Scenario

    @property
    def name(self) -> str:
        """Kernel and scenario, for a line of progress."""
        return f"{self.kernel.name} {self.scenario.name}"


@dataclass(frozen=True)
class CellResult:
    """The result of a cell. `verdict` is RIGHT, WRONG or LOST. `reason` is the report's, or why there is no report.

    `seconds` is how long the cell took, `lost` how many boots were lost before this one.
    """

    cell: Cell
    verdict: str
    reason: str
    seconds: float
    report: Mapping[str, object] | None
    lost: int

    def summary(self) -> dict[str, Any]:
        """Returns the cell's row in summary.json."""
        return {
            "kernel": self.cell.kernel.name,
            "release": self.cell.kernel.release,
            "scenario": self.cell.scenario.name,
            "verdict": self.verdict,
            "reason": self.reason,
            "expected": list(self.cell.scenario.reasons(self.cell.kernel)),
            "seconds": round(self.seconds, 1),
            "lost_before": self.lost,
        }


def weight(cell: Cell) -> int:
    """Returns how long a cell takes, in ordinary boots: a guest in a guest takes three."""
    return 1 if cell.scenario.machine.vm_cr is None else 3


class Lab:
    """What the cells share: kernels, userspaces and the outer kernel, all ready before the first boot.

    `folder` is the cache. `outer` is the kernel around guests whose firmware sets VM_CR. Raises Problem.
    """

    def __init__(self, columns: Sequence[Kernel], rows: Sequence[Scenario], folder: Path, say: Say) -> None:
        cells = [Cell(kernel, row) for row in rows for kernel in columns if row.applies(kernel)]
        # The long cells first, so that none of them runs alone at the end.
        self.cells = sorted(cells, key=weight, reverse=True)
        self._folder = folder
        suites = dict.fromkeys(kernel.userspace for kernel in columns)
        self._userspaces: dict[str, Userspace] = {suite: userspace.fetch(suite, folder, say) for suite in suites}
        self.outer: Kernel | None = None
        if any(cell.scenario.machine.vm_cr is not None for cell in cells):
            self.outer = kernels.fetch(kernels.debian(nested_boot.OUTER), folder, say)

    def boot(self, cell: Cell, deadline: float) -> CellResult:
        """Boots a cell and returns its result. Raises no Problem: a cell with a Problem is LOST."""
        started = time.monotonic()
        booted: BootedReport | None = None
        reason = ""
        for lost in range(_TRIES):
            try:
                booted = self._probe(cell, deadline)
            except Problem as problem:
                return CellResult(cell, LOST, problem.message, time.monotonic() - started, None, lost)
            if booted.boot.outcome == ANSWERED:
                break
            reason = f"{booted.boot.outcome}: {booted.boot.reason}"
        seconds = time.monotonic() - started
        if booted is None or booted.boot.outcome != ANSWERED:
            return CellResult(cell, LOST, reason, seconds, None, _TRIES)
        if booted.report is None:
            return CellResult(cell, WRONG, f"exit status {booted.boot.status}", seconds, None, lost)
        found = booted.report["verdict"]["reason"]
        verdict = RIGHT if found in cell.scenario.reasons(cell.kernel) else WRONG
        return CellResult(cell, verdict, found, seconds, booted.report, lost)

    def _probe(self, cell: Cell, deadline: float) -> BootedReport:
        scenario = cell.scenario
        return probe(
            cell.kernel,
            self._folder,
            scenario.arguments,
            self.guest(cell),
            scenario.machine,
            deadline,
            outer=self.outer,
        )

    def guest(self, cell: Cell) -> Guest:
        """Returns the software in a cell's machine."""
        home = self._userspaces[cell.kernel.userspace]
        return Guest(home.root, home.image, cell.scenario.prepare, cell.scenario.user)


def run_cells(cells: Sequence[C], boot: Callable[[C], T], jobs: int) -> Iterator[tuple[list[T], int]]:
    """Calls `boot` for all cells, `jobs` at a time. About every second it yields the results of the cells that have
    just ended (perhaps none) and how many cells run.

    If the caller leaves early, also by an exception, all boots end.
    """
    pool = ThreadPoolExecutor(jobs)
    left: set[Future[T]] = {pool.submit(boot, cell) for cell in cells}
    try:
        while left:
            done, left = wait(left, _TICK_S, FIRST_COMPLETED)
            yield [future.result() for future in done], sum(future.running() for future in left)
    finally:
        if left:
            qemu.stop_all()
        pool.shutdown(cancel_futures=True)
