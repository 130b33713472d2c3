"""Changes of the answers to what --require asked of both reports."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe.compare.difference import BETTER, NOT_COMPARABLE, SAME, WORSE, Difference, Side

_BEST_FIRST = ("met", "unknown", "not-met")


def requirements(old: Side, new: Side) -> Iterator[Difference]:
    """Each requirement. It is better only where it is now met: from not met to unknown is not comparable."""
    for name, now in new.requirements.items():
        before, after = old.requirements[name]["status"], now["status"]
        if before == after:
            rating = SAME
        elif _BEST_FIRST.index(after) > _BEST_FIRST.index(before):
            rating = WORSE
        else:
            rating = BETTER if after == "met" else NOT_COMPARABLE
        yield Difference("requirements", name, rating, before, after, "" if after == "met" else now["message"])
