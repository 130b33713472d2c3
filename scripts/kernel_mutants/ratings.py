"""Rates the answers: a mutant is caught, caught with a wrong reason, or slips through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvmprobe.compare.comparison import Pair
from kvmprobe.lab import booted_probe
from kvmprobe.model.verdict_status import EXIT_STATUS
from scripts.kernel_mutants.commands import COMPARISONS, LOST, STRICT, WORSE
from scripts.kernel_mutants.mutant_boots import Answer, Task
from scripts.kernel_mutants.mutant_table import NONE, Mutant

if TYPE_CHECKING:
    from kvmprobe.model.judgement import Report

CAUGHT, WRONG, SLIPPED, NOT_RUN = "caught", "wrong reason", "slipped", "not run"
NO_END, NO_REPORT, UNREADABLE = "no end", "no report", "unreadable report"  # in place of a reason


@dataclass(frozen=True)
class Rating:
    """How a command did: `rating` is CAUGHT, WRONG or SLIPPED, `reason` is what it answered, `more` explains it."""

    rating: str
    reason: str
    more: str


def rate(mutant: Mutant, answers: Mapping[Task, Answer]) -> dict[str, Rating]:
    """Returns the rating of each command and comparison that ran against `mutant`, by their names."""
    own = {task.command: answer for task, answer in answers.items() if task.number == mutant.number and not task.again}
    ratings = {name: _of_answer(mutant.expected, answer) for name, answer in own.items()}
    for name, command in COMPARISONS.items():
        good = answers.get(Task(0, command, mutant.before, mutant.cpu))
        if good and command in own:
            found = compared(good, own[command], name.endswith(STRICT))
            if found:
                ratings[name] = found
    return ratings


def good_faults(answers: Mapping[Task, Answer]) -> list[str]:
    """Returns what a command answered about the good kernel that is a false alarm, a line each."""
    faults = []
    for task, answer in answers.items():
        if task.number or task.before or task.cpu:
            continue
        rating = _of_answer((), answer)
        if rating.rating != SLIPPED:
            faults.append(f"{task.command}: {rating.reason}: {rating.more}")
        found = compared(answers[Task(0, task.command)], answer)
        if found and found.rating == CAUGHT:
            faults.append(f"compare of two runs of {task.command}: {found.more}")
    return faults


def named(mutant: Mutant, ratings: Mapping[str, Rating]) -> str:
    """Returns the rating of the command that the table names; CAUGHT where it names none."""
    if mutant.command == NONE:
        return CAUGHT
    return ratings[mutant.command].rating if mutant.command in ratings else NOT_RUN


def compared(good: Answer, broken: Answer, strict: bool = False) -> Rating | None:
    """Returns the rating of a comparison of two reports; None if one of them has none. `strict`: as with --strict."""
    old, new = _report(good), _report(broken)
    if old is None or new is None:
        return None
    pair = Pair("", ("good", old), ("broken", new), strict)
    texts = [
        f"{difference.rating}: {difference.area} {difference.subject}: {difference.was} -> {difference.now}"
        for difference in pair.sorted(with_same=False)
    ]
    return Rating(CAUGHT if pair.rating.upper() == WORSE else SLIPPED, pair.rating, "; ".join(texts))


def _of_answer(expected: tuple[str, ...], answer: Answer) -> Rating:
    report = _report(answer)
    if report is None:
        reason = (
            LOST if answer.lost else NO_END if answer.status is None else UNREADABLE if answer.report else NO_REPORT
        )
        more = answer.lost or f"exit status {answer.status}: {answer.stderr.strip()[-300:]}"
        return Rating(CAUGHT if reason in expected else WRONG, reason, more)
    verdict = report["verdict"]
    if EXIT_STATUS[verdict["status"]] == 0:
        warnings = [check["message"] for check in report["checks"] if check["status"] == "warn"]
        return Rating(SLIPPED, verdict["reason"], "; ".join(warnings))
    names = {verdict["reason"], f"{verdict['reason']}/{verdict['cause']}"}
    return Rating(WRONG if names.isdisjoint(expected) else CAUGHT, verdict["reason"], verdict["summary"])


def _report(answer: Answer) -> Report | None:
    """The report in an answer, judged by this version; None if there is none that can be read."""
    return booted_probe.judged_report(answer.report.encode()) if answer.report else None
