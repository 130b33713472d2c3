"""All scenarios on all kernels, side by side. One cell that is lost or wrong never hides the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kvmprobe.lab import kernels, nested, qemu, userspace
from kvmprobe.lab.booted_probe import Answer, Guest, probe
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.outcome import ANSWERED
from kvmprobe.lab.scenarios import Scenario
from kvmprobe.lab.tools import Say
from kvmprobe.lab.userspace import Userspace
from kvmprobe.model.errors import Problem

_TRIES = 2  # a guest that is lost says nothing about kvmprobe; that it was lost is told
_TICK_S = 1.0

T = TypeVar("T")

RIGHT, WRONG, LOST = "right", "wrong", "lost"


@dataclass(frozen=True)
class Cell:
    kernel: Kernel
    scenario: Scenario

    @property
    def name(self) -> str:
        return f"{self.kernel.name} {self.scenario.name}"


@dataclass(frozen=True)
class Result:
    """`verdict`: RIGHT, WRONG or LOST; `reason`: the report's, or why there is none; `lost`: boots before this one."""

    cell: Cell
    verdict: str
    reason: str
    seconds: float
    report: Mapping[str, object] | None
    lost: int

    def summary(self) -> dict[str, Any]:
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
    """How long a cell takes, in boots of the usual kind: a guest in a guest takes three."""
    return 1 if cell.scenario.machine.vm_cr is None else 3


class Lab:
    """What the cells have in common, made ready before the first boots. `folder` is the cache.

    `outer` is the kernel around guests whose firmware sets VM_CR.
    """

    def __init__(self, columns: Sequence[Kernel], rows: Sequence[Scenario], folder: Path, say: Say) -> None:
        cells = [Cell(kernel, row) for row in rows for kernel in columns if row.applies(kernel)]
        # The long ones first, so that they do not run alone at the end.
        self.cells = sorted(cells, key=weight, reverse=True)
        self._folder = folder
        suites = dict.fromkeys(kernel.userspace for kernel in columns)
        self._userspaces: dict[str, Userspace] = {suite: userspace.fetch(suite, folder, say) for suite in suites}
        self.outer: Kernel | None = None
        if any(cell.scenario.machine.vm_cr is not None for cell in cells):
            self.outer = kernels.fetch(kernels.debian(nested.OUTER), folder, say)

    def boot(self, cell: Cell, deadline: float) -> Result:
        """One cell's answer. Never raises a Problem: that is the cell's result, too."""
        started = time.monotonic()
        answer: Answer | None = None
        reason = ""
        for lost in range(_TRIES):
            try:
                answer = self._probe(cell, deadline)
            except Problem as problem:
                return Result(cell, LOST, problem.message, time.monotonic() - started, None, lost)
            if answer.boot.outcome == ANSWERED:
                break
            reason = f"{answer.boot.outcome}: {answer.boot.reason}"
        seconds = time.monotonic() - started
        if answer is None or answer.boot.outcome != ANSWERED:
            return Result(cell, LOST, reason, seconds, None, _TRIES)
        if answer.report is None:
            return Result(cell, WRONG, f"exit status {answer.boot.status}", seconds, None, lost)
        verdict = answer.report["verdict"]
        right = verdict["reason"] in cell.scenario.reasons(cell.kernel)
        return Result(cell, RIGHT if right else WRONG, verdict["reason"], seconds, answer.report, lost)

    def _probe(self, cell: Cell, deadline: float) -> Answer:
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
        """What runs in a cell's machine."""
        home = self._userspaces[cell.kernel.userspace]
        return Guest(home.root, home.image, cell.scenario.prepare, cell.scenario.user)


def run(cells: Sequence[Cell], boot: Callable[[Cell], T], jobs: int) -> Iterator[tuple[list[T], int]]:
    """Calls `boot` for all cells, `jobs` at a time. Yields those that just ended (none, about every second) and how
    many run.

    Left early, by an exception too, it ends all boots.
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
