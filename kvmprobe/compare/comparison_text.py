"""A comparison as text for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kvmprobe.compare.comparison import Comparison, Pair, Single
from kvmprobe.compare.difference import BETTER, CHANGED, NOT_COMPARABLE, SAME, WORSE, Difference
from kvmprobe.model.printable import CYAN, GREEN, RED, YELLOW, clean, joined, paint, wrap

_COLOURS = {WORSE: RED, BETTER: GREEN, CHANGED: YELLOW, NOT_COMPARABLE: CYAN, SAME: GREEN}
_SEVERAL = 3  # a difference that so many reports have is written once
_INDENT = "  "

_Key = tuple[str, str, str, str, str, str]


def render(comparison: Comparison, verbose: int = 0, colour: bool = False, width: int | None = None) -> str:
    """The text. `verbose`: -1 the last line only, 0 a line for each difference, 1 also what is the same, and each
    report of a folder in full. `width`: the columns of the terminal; None: lines are not wrapped."""
    lines: list[str] = []
    if verbose >= 0:
        head, body = (_folders if comparison.are_folders else _files)(comparison, verbose, colour, width)
        lines = [line for section in (head, body) if section for line in (*section, "")]
    return joined([*lines, _last(comparison, colour)])


def difference_lines(
    differences: Iterable[Difference], colour: bool = False, width: int | None = None, indent: str = ""
) -> Iterator[str]:
    """A line for each difference. Those that differ in their subject only share one."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for one in differences:
        groups.setdefault((one.area, one.rating, one.was, one.now, one.note), []).append(one.subject)
    for (area, rating, was, now, note), subjects in groups.items():
        name = area if subjects == [area] else f"{area} {', '.join(subjects)}"
        values = was if rating == SAME else f"was {was}, is {now}"
        text = f"{name}: {values}" + (f" ({note})" if note else "")
        yield from _marked(rating, text, colour, width, indent)


def _files(comparison: Comparison, verbose: int, colour: bool, width: int | None) -> tuple[list[str], list[str]]:
    pair = comparison.pairs[0]
    head = []
    for side, report in (("OLD", pair.old), ("NEW", pair.new)):
        text = f"{side} {report['file']}: Linux {report['kernel']}, {report['status']} {report['reason']}"
        head += wrap(clean(text), width, rest="    ")
    return head, list(difference_lines(pair.sorted(verbose > 0), colour, width))


def _folders(comparison: Comparison, verbose: int, colour: bool, width: int | None) -> tuple[list[str], list[str]]:
    pairs = comparison.pairs
    head, body = [], []
    for side, reports in (("OLD", [pair.old for pair in pairs]), ("NEW", [pair.new for pair in pairs])):
        if kernels := dict.fromkeys(report["kernel"] for report in reports):
            head += wrap(clean(f"{side}: Linux {', '.join(kernels)}"), width, rest="    ")
    shared = {} if verbose > 0 else _shared(pairs)
    for pair in pairs:
        own = [one for one in pair.sorted(verbose > 0) if _key(one) not in shared]
        if own:
            body.append(f"{clean(pair.name)}: {paint(pair.rating, _COLOURS[pair.rating], colour)}")
            body += difference_lines(own, colour, width, _INDENT)
    for count in sorted({count for _, count in shared.values()}, reverse=True):
        body.append(f"in {count} reports (-v names them):")
        body += difference_lines((one for one, found in shared.values() if found == count), colour, width, _INDENT)
    for single in comparison.singles:
        body += _marked(single.rating, _single(single), colour, width)
    body += [clean(f"not compared: {path}: {error}") for path, error in comparison.bad.items()]
    return head, body


def _single(single: Single) -> str:
    other = "NEW" if single.side == "OLD" else "OLD"
    lost = f" (the lab of {other} ran it: {single.lost})" if single.lost else ""
    return f"{single.name}: only in {single.side}, not in {other}{lost}"


def _shared(pairs: Iterable[Pair]) -> dict[_Key, tuple[Difference, int]]:
    """The differences that _SEVERAL reports or more have, each with their number. What is worse stays with its
    report."""
    found: dict[_Key, list[Difference]] = {}
    for pair in pairs:
        for difference in pair.differences:
            if difference.rating not in (SAME, WORSE):
                found.setdefault(_key(difference), []).append(difference)
    return {key: (equal[0], len(equal)) for key, equal in found.items() if len(equal) >= _SEVERAL}


def _key(one: Difference) -> _Key:
    return one.area, one.subject, one.rating, one.was, one.now, one.note


def _marked(rating: str, text: str, colour: bool, width: int | None, indent: str = "") -> list[str]:
    mark = f"[{rating.upper():^14}]"
    first = f"{indent}{paint(mark, _COLOURS[rating], colour)} "
    return wrap(clean(text), width, first, " " * (len(indent) + len(mark) + 1))


def _last(comparison: Comparison, colour: bool) -> str:
    numbers = [f"{count} {rating}" for rating, count in comparison.counts().items() if count]
    if comparison.bad:
        numbers.append(f"{len(comparison.bad)} not read")
    rating = paint(comparison.rating.upper(), _COLOURS[comparison.rating], colour)
    what = "reports" if comparison.are_folders else "values"
    return f"{rating}: {what}: {', '.join(numbers) or 'none'}"
