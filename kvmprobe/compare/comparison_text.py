"""A comparison for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from kvmprobe.compare.comparison import Comparison, Pair
from kvmprobe.compare.difference import BETTER, CHANGED, NOT_COMPARABLE, SAME, WORSE, Difference
from kvmprobe.model.printable import clean

_OFF = "\033[0m"
_COLOURS = {WORSE: "\033[31m", BETTER: "\033[32m", CHANGED: "\033[33m", NOT_COMPARABLE: "\033[36m", SAME: "\033[32m"}
_SEVERAL = 3  # reports with the same difference: it is told once

Key = tuple[str, str, str, str, str, str]


def render(comparison: Comparison, verbose: int = 0, colour: bool = False) -> str:
    """`verbose`: -1 the last line alone, 0 one line for each difference, 1 what is the same too."""

    def paint(text: str, rating: str) -> str:
        return f"{_COLOURS[rating]}{text}{_OFF}" if colour else text

    lines = []
    if verbose >= 0:
        lines = list((_folders if comparison.folders else _files)(comparison, verbose, paint))
    return "\n".join([*lines, _last(comparison, paint)]) + "\n"


def _files(comparison: Comparison, verbose: int, paint: Callable[[str, str], str]) -> Iterator[str]:
    pair = comparison.pairs[0]
    for title, about in (("OLD", pair.old), ("NEW", pair.new)):
        yield clean(f"{title} {about['file']}: Linux {about['kernel']}, {about['status']} {about['reason']}")
    yield ""
    lines = list(lines_of(pair.sorted(verbose > 0), paint))
    if lines:
        yield from lines
        yield ""


def _folders(comparison: Comparison, verbose: int, paint: Callable[[str, str], str]) -> Iterator[str]:
    for title, abouts in (("OLD", [p.old for p in comparison.pairs]), ("NEW", [p.new for p in comparison.pairs])):
        kernels = dict.fromkeys(about["kernel"] for about in abouts)
        if kernels:
            yield clean(f"{title}: Linux {', '.join(kernels)}")
    yield ""
    several = _several(comparison.pairs) if verbose <= 0 else {}
    for pair in comparison.pairs:
        shown = [difference for difference in pair.sorted(verbose > 0) if _key(difference) not in several]
        if shown:
            yield f"{clean(pair.name)}: {paint(pair.rating, pair.rating)}"
            yield from (f"  {line}" for line in lines_of(shown, paint))
    for count in sorted({count for _, count in several.values()}, reverse=True):
        yield f"in {count} reports each (-v tells in which):"
        shown = [difference for difference, found in several.values() if found == count]
        yield from (f"  {line}" for line in lines_of(shown, paint))
    for single in comparison.singles:
        lost = f" (there it was run: {single.lost})" if single.lost else ""
        other = "NEW" if single.side == "OLD" else "OLD"
        yield _mark(single.rating, paint) + clean(f" {single.name}: is only in {single.side}, not in {other}{lost}")
    for path, error in comparison.bad.items():
        yield clean(f"not compared: {path}: {error}")
    yield ""


def _several(pairs: Iterable[Pair]) -> dict[Key, tuple[Difference, int]]:
    """The same difference in several reports, and in how many. What is worse is told where it is."""
    found: dict[Key, list[Difference]] = {}
    for pair in pairs:
        for difference in pair.differences:
            if difference.rating not in (SAME, WORSE):
                found.setdefault(_key(difference), []).append(difference)
    return {key: (same[0], len(same)) for key, same in found.items() if len(same) >= _SEVERAL}


def _key(difference: Difference) -> Key:
    return (
        difference.area,
        difference.subject,
        difference.rating,
        difference.was,
        difference.now,
        difference.note,
    )


def lines_of(differences: Iterable[Difference], paint: Callable[[str, str], str]) -> Iterator[str]:
    """A line each; those that differ in their subject alone are told in one."""
    groups: dict[tuple[str, str, str, str, str], list[str]] = {}
    for d in differences:
        groups.setdefault((d.area, d.rating, d.was, d.now, d.note), []).append(d.subject)
    for (area, rating, was, now, note), subjects in groups.items():
        name = area if subjects == [area] else f"{area} {', '.join(subjects)}"
        states = was if rating == SAME else f"was {was}, is {now}"
        yield f"{_mark(rating, paint)} {clean(name)}: {clean(states)}" + (clean(f" ({note})") if note else "")


def _mark(rating: str, paint: Callable[[str, str], str]) -> str:
    return paint(f"[{rating.upper():^14}]", rating)


def _last(comparison: Comparison, paint: Callable[[str, str], str]) -> str:
    counts = comparison.counts()
    told = ", ".join(f"{count} {rating}" for rating, count in counts.items() if count)
    what = "reports: " if comparison.folders else ""
    bad = f"; {len(comparison.bad)} could not be compared" if comparison.bad else ""
    return f"{paint(comparison.rating.upper(), comparison.rating)}: {what}{told or 'nothing'}{bad}"
