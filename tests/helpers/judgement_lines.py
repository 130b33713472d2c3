"""How variants are judged, as lines for people: only what differs from the recorded evidence that they are made from.

`python -m tests.helpers.judgement_lines >tests/judge/judgements.txt` writes them anew after a change of the judge; the
difference is then to be reviewed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from kvmprobe.judge import examine, judge
from kvmprobe.model.reasons import REASONS
from tests.helpers.judged_variants import VARIANTS
from tests.helpers.recorded_evidence import RECORDED, recorded, recorded_name


def judged(evidence: Any) -> list[str]:
    """The verdict and each check, with its parts by CPU."""
    verdict = judge(evidence)["verdict"]
    cause = f" ({verdict['cause']})" if verdict["cause"] else ""
    lines = [f"{verdict['status']} {verdict['reason']}{cause}: {verdict['summary']}"]
    lines += [f"  because {line}" for line in verdict["because"]]
    lines += _hint(verdict["reason"], verdict["hint"])
    blocked: dict[str, list[str]] = {}
    for outcome in examine(evidence):
        if outcome.blocked_by:
            line = f"blocked by {outcome.blocked_by} ({outcome.result.status}, {outcome.result.message})"
            blocked.setdefault(line, []).append(outcome.check.id)
        else:
            lines += _check(outcome)
    return lines + [f"  {line}: {', '.join(ids)}" for line, ids in blocked.items()]


def _check(outcome: Any) -> Iterator[str]:
    result = outcome.result
    reason = f" ({result.reason})" if result.reason else ""
    yield f"  [{result.status}] {outcome.check.id}{reason}: {result.message}"
    for cpu, part in result.by_cpu.items():
        yield f"    [{part.status}] {outcome.check.id}.cpu{cpu}: {part.message}"


def _hint(reason: str, hint: str) -> list[str]:
    """A hint that is not the reason's own."""
    return [] if hint == REASONS[reason].hint else [f"  hint {hint}"]


def of_variant(base: str, change: Callable[[Any], Any]) -> list[str]:
    """What the change makes of the judgement of recorded evidence."""
    evidence = recorded(base)
    change(evidence)
    before = _base(base)
    verdict, *rest = judged(evidence)
    return [verdict, *(line for line in rest if line not in before)]


@functools.cache
def _base(name: str) -> frozenset[str]:
    return frozenset(judged(recorded(name)))


def of_recorded(name: str) -> list[str]:
    """The parts by CPU, which a report does not have."""
    return [line for line in judged(recorded(name)) if line.startswith("    [")]


def main() -> None:
    for name, base, change, _ in VARIANTS:
        print(f"== {name} ({base})", *of_variant(base, change), sep="\n")
    for name in map(recorded_name, RECORDED):
        lines = of_recorded(name)
        if lines:
            print(f"== {name}", *lines, sep="\n")


if __name__ == "__main__":
    main()
