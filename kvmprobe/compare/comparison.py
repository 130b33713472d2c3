"""The comparison of two reports, or of two folders of them, report by report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kvmprobe import TYPE_CHECKING
from kvmprobe.compare import compare
from kvmprobe.compare.difference import NOT_COMPARABLE, RATINGS, SAME, WORSE, Difference
from kvmprobe.model.errors import EXIT_CONFIRMED, EXIT_DATA, EXIT_FAILED

if TYPE_CHECKING:
    from kvmprobe.model.judgement import Report


class Pair:
    """Two reports that belong together. `name`: theirs in both folders; `old` and `new`: what to call the two."""

    def __init__(self, name: str, old: tuple[str, Report], new: tuple[str, Report]) -> None:
        self.name = name
        self.old = _about(*old)
        self.new = _about(*new)
        self.differences = compare(old[1], new[1])
        self.rating = worst(difference.rating for difference in self.differences)

    def sorted(self, same: bool) -> list[Difference]:
        """By area, in each the worst first; with what is the `same` or without."""
        areas = list(dict.fromkeys(difference.area for difference in self.differences))
        return sorted(
            (difference for difference in self.differences if same or difference.rating != SAME),
            key=lambda difference: (areas.index(difference.area), RATINGS.index(difference.rating)),
        )


class Single:
    """A report that is in one folder only. `side`: "OLD" or "NEW"; `lost`: why the other has none, though it ran."""

    def __init__(self, name: str, side: str, lost: str = "") -> None:
        self.name = name
        self.side = side
        self.lost = lost
        self.rating = WORSE if lost and side == "OLD" else NOT_COMPARABLE


class Comparison:
    """`folders`: whether folders were compared; `bad`: by file, why it could not be read."""

    def __init__(self, pairs: Sequence[Pair], singles: Sequence[Single], bad: dict[str, str], folders: bool) -> None:
        self.pairs = pairs
        self.singles = singles
        self.bad = bad
        self.folders = folders
        self.rating = worst([*(pair.rating for pair in pairs), *(single.rating for single in singles)])

    def counts(self) -> dict[str, int]:
        """By rating: how many differences of two reports, or how many reports in two folders."""
        if self.folders:
            ratings = [*(pair.rating for pair in self.pairs), *(single.rating for single in self.singles)]
        else:
            ratings = [difference.rating for pair in self.pairs for difference in pair.differences]
        return {rating: ratings.count(rating) for rating in RATINGS}

    def exit_status(self) -> int:
        """What is worse is never hidden by a file that could not be read."""
        if self.rating == WORSE:
            return EXIT_FAILED
        return EXIT_DATA if self.bad else EXIT_CONFIRMED


def worst(ratings: Iterable[str]) -> str:
    return min(ratings, key=RATINGS.index, default=SAME)


def _about(name: str, report: Report) -> dict[str, str]:
    return {
        "file": name,
        "kernel": report["evidence"]["kernel"]["release"],
        "status": report["verdict"]["status"],
        "reason": report["verdict"]["reason"],
    }
