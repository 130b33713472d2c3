"""The report as JSON: the whole of it, for tools and for `kvmprobe judge`."""

from __future__ import annotations

import json

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def render(report: Mapping[str, object]) -> str:
    """ASCII only, so that no terminal and no locale can spoil it."""
    return json.dumps(report, indent=1) + "\n"
