"""A comparison as cases: an area of two reports each, or a report of two folders each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvmprobe.compare import AREAS
from kvmprobe.compare.comparison import Comparison
from kvmprobe.compare.comparison_text import lines_of
from kvmprobe.compare.difference import NOT_COMPARABLE, SAME, WORSE, Difference
from kvmprobe.formats.harness_cases import ERROR, Case, Suite
from kvmprobe.judge.check_result import FAIL, PASS, SKIP

_NAME = "kvmprobe-compare"


def suite(comparison: Comparison) -> Suite:
    """What is worse fails; what has nothing beside it to be compared with is skipped."""
    return Suite(_NAME, list(_cases(comparison)))


def _cases(comparison: Comparison) -> Iterator[Case]:
    for pair in comparison.pairs:
        differences = pair.sorted(same=True)
        if comparison.folders:
            yield _case(pair.name, differences)
        else:
            yield from (_case(area, [d for d in differences if d.area == area]) for area in AREAS)
    for single in comparison.singles:
        lost = [f"lost: {single.lost}"] if single.lost else []
        if single.rating == WORSE:
            yield Case(single.name, FAIL, f"is only in {single.side}", more=lost)
        else:
            yield Case(single.name, SKIP, skip=f"only-in-{single.side.lower()}", more=lost)
    for path, error in comparison.bad.items():
        yield Case(path, ERROR, error)


def _case(name: str, differences: Sequence[Difference]) -> Case:
    ratings = {difference.rating for difference in differences}
    more = list(lines_of([d for d in differences if d.rating != SAME], lambda text, _: text))
    if WORSE in ratings:
        return Case(name, FAIL, more=more)
    if ratings <= {NOT_COMPARABLE}:
        return Case(name, SKIP, skip="not-comparable" if ratings else "nothing-to-compare", more=more)
    return Case(name, PASS, more=more)
