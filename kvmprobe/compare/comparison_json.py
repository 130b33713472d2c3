"""A comparison as JSON (compare.schema.json)."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING, __version__

if TYPE_CHECKING:
    from kvmprobe.compare.comparison import Comparison

SCHEMA = "kvmprobe.compare/1"


def comparison_data(comparison: Comparison, with_same: bool) -> dict[str, object]:
    """The comparison as JSON has it; `with_same`: also what is the same."""
    return {
        "schema": SCHEMA,
        "tool": {"name": "kvmprobe", "version": __version__},
        "rating": comparison.rating,
        "counts": comparison.counts(),
        "pairs": [
            {
                "name": pair.name,
                "rating": pair.rating,
                "old": pair.old,
                "new": pair.new,
                "differences": [difference.data() for difference in pair.sorted(with_same)],
            }
            for pair in comparison.pairs
        ],
        "singles": [
            {"name": single.name, "side": single.side, "lost": single.lost, "rating": single.rating}
            for single in comparison.singles
        ],
        "bad": [{"file": path, "error": error} for path, error in comparison.bad.items()],
    }
