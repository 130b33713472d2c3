"""The table of features in the text report: what kvm_amd made of each, and why not."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats.feature_cells import TITLES, feature_cells
from kvmprobe.formats.text_lines import Line, heading
from kvmprobe.model.printable import columns

if TYPE_CHECKING:
    from kvmprobe.judge.facts import Facts

_INDENT = "  "


def table(facts: Facts) -> Iterator[Line]:
    """A row for each feature; nothing where kvm_amd decides about none."""
    rows = feature_cells(facts)
    if not rows:
        return
    yield heading("Features of kvm_amd, in its own order (offered: to guests; ?: unknown):")
    lines = columns([TITLES, *rows])
    hang = len(_INDENT) + lines[0].index(TITLES[-1]) + 2
    yield from (Line(f"{_INDENT}{line}", hang) for line in lines)
