"""How variants, causes and cases are judged, as lines for people. Of a variant: only what differs from the recorded
evidence that it is made from.

`python -m tests.helpers.judgement_lines >tests/judge/judgements.txt` writes them anew after a change of the judge; the
difference is then to be reviewed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kvmprobe.judge import examine, judge
from kvmprobe.model.reasons import REASONS
from tests.helpers.cause_variants import CAUSED
from tests.helpers.judged_variants import VARIANTS
from tests.helpers.near_cause_variants import NEAR
from tests.helpers.recorded_evidence import CASES, RECORDED, recorded, recorded_name

STORED = Path(__file__).parents[1] / "judge/judgements.txt"


def judged(evidence: Any) -> list[str]:
    """The verdict and each check, with its parts by CPU."""
    lines = _verdict(evidence)
    blocked: dict[str, list[str]] = {}
    for outcome in examine(evidence):
        if outcome.blocked_by:
            line = f"blocked by {outcome.blocked_by} ({outcome.result.status}, {outcome.result.message})"
            blocked.setdefault(line, []).append(outcome.check.id)
        else:
            lines += _check(outcome)
    return lines + [f"  {line}: {', '.join(ids)}" for line, ids in blocked.items()]


def _verdict(evidence: Any) -> list[str]:
    verdict = judge(evidence)["verdict"]
    cause = f" ({verdict['cause']})" if verdict["cause"] else ""
    lines = [f"{verdict['status']} {verdict['reason']}{cause}: {verdict['summary']}"]
    lines += [f"  because {line}" for line in verdict["because"]]
    return lines + _hint(verdict["reason"], verdict["hint"])


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


def of_cause(base: str, change: Callable[[Any], Any]) -> list[str]:
    """The verdict alone: what the change makes of the checks, other variants show."""
    evidence = recorded(base)
    change(evidence)
    return _verdict(evidence)


def of_case(path: Path) -> list[str]:
    return judged(json.loads(path.read_text()))


def sections() -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """The head of each section, and what gives its lines. Recorded evidence without a part by CPU has no lines."""
    for name, base, change, _ in VARIANTS:
        yield f"{name} ({base})", functools.partial(of_variant, base, change)
    for name in map(recorded_name, RECORDED):
        yield name, functools.partial(of_recorded, name)
    seen: dict[str, int] = {}
    for name, base, change, *_ in CAUSED:
        seen[name] = seen.get(name, 0) + 1
        yield f"cause {name}, {seen[name]} ({base})", functools.partial(of_cause, base, change)
    for name, base, change, *_ in NEAR:
        yield f"near a cause: {name} ({base})", functools.partial(of_cause, base, change)
    for path in CASES:
        yield recorded_name(path), functools.partial(of_case, path)


def stored() -> dict[str, list[str]]:
    """The lines of each section in judgements.txt."""
    found: dict[str, list[str]] = {}
    for section in STORED.read_text().split("== ")[1:]:
        head, *lines = section.splitlines()
        found[head] = lines
    return found


def main() -> None:
    for head, give in sections():
        lines = give()
        if lines:
            print(f"== {head}", *lines, sep="\n")


if __name__ == "__main__":
    main()
