"""Builds kvm with many mistakes in it, one at a time chosen by a parameter, and runs kvmprobe's commands against each.

The result is a table of mutants and commands: caught, caught with a wrong reason, or slipped. Without --only it is
written into docs/regression.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Not this folder: its modules are scripts.kernel_mutants.…, and kvmprobe is that of this checkout.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from kvmprobe.lab import cache, kernels  # noqa: E402
from kvmprobe.lab.kernels import DebianKernel  # noqa: E402
from kvmprobe.model.errors import Problem  # noqa: E402
from kvmprobe.report.messages import say  # noqa: E402
from scripts.kernel_mutants import module_build, mutant_boots, mutant_page, mutant_table, ratings, stored_runs  # noqa: E402
from scripts.kernel_mutants.commands import COMMANDS, COMPARISONS, commands_for  # noqa: E402
from scripts.kernel_mutants.mutant_boots import Task  # noqa: E402
from scripts.kernel_mutants.mutant_table import NONE, Mutant  # noqa: E402
from scripts.kernel_mutants.ratings import CAUGHT, Rating  # noqa: E402


def main() -> int:
    """Returns 1 if a mutant is not caught by the command that should, or the good kernel is not confirmed."""
    parser = argparse.ArgumentParser(prog="scripts/mutants", description=__doc__, allow_abbrev=False)
    suites = [row.suite for row in kernels.DEBIAN if module_build.table_path(row).exists()]
    parser.add_argument("--kernel", choices=suites, default="bookworm", help="a kernel of the lab (%(default)s)")
    parser.add_argument("--only", metavar="NAME,...", help="only these mutants, and docs/regression.md stays")
    parser.add_argument("--named", action="store_true", help="run only the command that the table names; with --only")
    parser.add_argument("--good", metavar="N", type=int, default=2, help="runs of the good kernel (%(default)s)")
    parser.add_argument("--answers", metavar="DIR", type=Path, help="where the reports are (the lab's cache)")
    parser.add_argument("--missing", action="store_true", help="run only what has no stored answer: to continue a run")
    parser.add_argument("--no-boot", action="store_true", help="judge the reports of an earlier run again")
    options = parser.parse_args()
    row = kernels.debian(options.kernel)
    mutants = mutant_table.read(module_build.table_path(row))
    only = options.only.split(",") if options.only else [mutant.name for mutant in mutants]
    unknown = set(only).difference(mutant.name for mutant in mutants)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if options.named and not options.only:
        parser.error("--named needs --only: docs/regression.md has all commands")
    chosen = [mutant for mutant in mutants if mutant.name in only]
    answers = options.answers or cache.default() / "mutant-answers" / row.series
    tasks = _named_tasks(chosen) if options.named else _tasks(chosen, options.good)
    if not options.no_boot:
        stored = stored_runs.load(answers, mutants, tasks) if options.missing else {}
        _run(row, mutants, [task for task in tasks if task not in stored], answers)
    loaded = stored_runs.load(answers, mutants, tasks)
    found = {mutant.name: ratings.rate(mutant, loaded) for mutant in chosen}
    faults = ratings.good_faults(loaded)
    _print(chosen, found, faults)
    lines = mutant_page.summary(chosen, found)
    print(*lines, sep="\n")
    if not options.only:
        mutant_page.write(row.series, [*lines, "", *mutant_page.table(chosen, found)])
    missed = [mutant for mutant in chosen if ratings.named(mutant, found[mutant.name]) != CAUGHT]
    return 1 if missed or faults else 0


def _tasks(mutants: Sequence[Mutant], good: int) -> list[Task]:
    """What the good kernel and each mutant are to answer, the commands that the table names first.

    The good kernel runs with every command, and in the states that mutants begin in.
    """
    tasks = [Task(0, name, again=again) for again in range(good) for name in COMMANDS]
    named = {mutant.number: COMPARISONS.get(mutant.command, mutant.command) for mutant in mutants}
    for mutant in mutants:
        names = commands_for(mutant.command)
        tasks += [Task(number, name, mutant.before, mutant.cpu) for number in (0, mutant.number) for name in names]
    order = list(COMMANDS)
    tasks.sort(key=lambda task: (named.get(task.number, task.command) != task.command, order.index(task.command)))
    return list(dict.fromkeys(tasks))


def _named_tasks(mutants: Sequence[Mutant]) -> list[Task]:
    """The command that should catch each mutant, with it and with the good kernel."""
    tasks = []
    for mutant in mutants:
        name = COMPARISONS.get(mutant.command, mutant.command)
        tasks += [Task(number, name, mutant.before, mutant.cpu) for number in (0, mutant.number) if name in COMMANDS]
    return list(dict.fromkeys(tasks))


def _run(row: DebianKernel, mutants: Sequence[Mutant], tasks: Sequence[Task], answers: Path) -> None:
    kernel = kernels.fetch(row, cache.default(), say)
    modules = module_build.build(row, kernel, mutants, cache.default(), say)
    for task, answer in mutant_boots.run(kernel, modules, tasks, say):
        stored_runs.save(answers, mutants, task, answer)


def _print(mutants: Sequence[Mutant], found: dict[str, dict[str, Rating]], faults: Sequence[str]) -> None:
    """One line for each command that did not catch its mutant, or gave a wrong reason; and the false alarms."""
    for mutant in mutants:
        for name, rating in found[mutant.name].items():
            if rating.rating == ratings.WRONG or (name == mutant.command and rating.rating != CAUGHT):
                print(f"{mutant.name}: {name}: {rating.rating}: {rating.reason}: {rating.more}")
        if mutant.command != NONE and mutant.command not in found[mutant.name]:
            print(f"{mutant.name}: {mutant.command}: not run")
    for fault in faults:
        print(f"false alarm: {fault}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Problem as problem:
        sys.exit(f"mutants: {problem.message}. {problem.hint or ''}")
