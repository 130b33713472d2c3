"""A comparison as cases for test harnesses: one for each area of two reports, or for each report of two folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvmprobe.compare import AREAS
from kvmprobe.compare.comparison import Comparison
from kvmprobe.compare.comparison_text import difference_lines
from kvmprobe.compare.difference import NOT_COMPARABLE, SAME, WORSE, Difference
from kvmprobe.formats.harness_cases import ERROR, Case, Suite
from kvmprobe.judge.check_result import FAIL, PASS, SKIP

_NAME = "kvmprobe-compare"


def suite(comparison: Comparison) -> Suite:
    """A case fails where something is worse. It is skipped where nothing could be compared."""
    return Suite(_NAME, list(_cases(comparison)))


def _cases(comparison: Comparison) -> Iterator[Case]:
    for pair in comparison.pairs:
        differences = pair.sorted(with_same=True)
        if comparison.are_folders:
            yield _case(pair.name, differences)
        else:
            yield from (_case(area, [one for one in differences if one.area == area]) for area in AREAS)
    for single in comparison.singles:
        lost = [f"the lab ran it: {single.lost}"] if single.lost else []
        if single.rating == WORSE:
            yield Case(single.name, FAIL, f"only in {single.side}", more=lost)
        else:
            yield Case(single.name, SKIP, skip=f"only-in-{single.side.lower()}", more=lost)
    for path, error in comparison.bad.items():
        yield Case(path, ERROR, error)


def _case(name: str, differences: Sequence[Difference]) -> Case:
    ratings = {difference.rating for difference in differences}
    more = list(difference_lines([one for one in differences if one.rating != SAME]))
    if WORSE in ratings:
        return Case(name, FAIL, more=more)
    if ratings <= {NOT_COMPARABLE}:
        return Case(name, SKIP, skip="not-comparable" if ratings else "nothing-to-compare", more=more)
    return Case(name, PASS, more=more)
