"""The comparison of two reports, or of two folders of reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kvmprobe import TYPE_CHECKING
from kvmprobe.compare import compare
from kvmprobe.compare.difference import CHANGED, NOT_COMPARABLE, RATINGS, SAME, WORSE, Difference
from kvmprobe.model.errors import EXIT_CONFIRMED, EXIT_DATA, EXIT_FAILED

if TYPE_CHECKING:
    from kvmprobe.model.judgement import Report


class Pair:
    """Two reports that are compared with each other.

    `name`: their path in both folders; "" for two files. `old` and `new`: the name of the file, and the report.
    `strict`: what changed counts as worse.
    """

    def __init__(self, name: str, old: tuple[str, Report], new: tuple[str, Report], strict: bool = False) -> None:
        self.name = name
        self.old = _description(*old)
        self.new = _description(*new)
        self.differences = compare(old[1], new[1])
        if strict:
            for difference in self.differences:
                difference.rating = WORSE if difference.rating == CHANGED else difference.rating
        self.rating = worst(difference.rating for difference in self.differences)

    def sorted(self, with_same: bool) -> list[Difference]:
        """By area, and in each area the worst first; `with_same`: also what is the same."""
        areas = list(dict.fromkeys(difference.area for difference in self.differences))
        return sorted(
            (difference for difference in self.differences if with_same or difference.rating != SAME),
            key=lambda difference: (areas.index(difference.area), RATINGS.index(difference.rating)),
        )


class Single:
    """A report that only one folder has.

    `side`: which folder, "OLD" or "NEW". `lost`: how the run of the other folder ended, where its lab ran it and got
    no report; else "".
    """

    def __init__(self, name: str, side: str, lost: str = "") -> None:
        self.name = name
        self.side = side
        self.lost = lost
        self.rating = WORSE if lost and side == "OLD" else NOT_COMPARABLE


class Comparison:
    """`are_folders`: folders were compared, not two files. `bad`: why a file could not be read, by its name."""

    def __init__(
        self, pairs: Sequence[Pair], singles: Sequence[Single], bad: dict[str, str], are_folders: bool
    ) -> None:
        self.pairs = pairs
        self.singles = singles
        self.bad = bad
        self.are_folders = are_folders
        self.rating = worst(self._ratings())

    def _ratings(self) -> list[str]:
        return [*(pair.rating for pair in self.pairs), *(single.rating for single in self.singles)]

    def counts(self) -> dict[str, int]:
        """By rating: how many differences two reports have, or how many reports two folders have."""
        if self.are_folders:
            ratings = self._ratings()
        else:
            ratings = [difference.rating for pair in self.pairs for difference in pair.differences]
        return {rating: ratings.count(rating) for rating in RATINGS}

    def exit_status(self) -> int:
        """The exit status of the command. A file that could not be read never hides what is worse."""
        if self.rating == WORSE:
            return EXIT_FAILED
        return EXIT_DATA if self.bad else EXIT_CONFIRMED


def worst(ratings: Iterable[str]) -> str:
    """The first of RATINGS that is among `ratings`; SAME for none."""
    return min(ratings, key=RATINGS.index, default=SAME)


def _description(name: str, report: Report) -> dict[str, str]:
    return {
        "file": name,
        "kernel": report["evidence"]["kernel"]["release"],
        "status": report["verdict"]["status"],
        "reason": report["verdict"]["reason"],
    }
