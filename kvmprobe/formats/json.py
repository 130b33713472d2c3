"""The report as JSON: the whole of it, for tools and for `kvmprobe judge`."""

from __future__ import annotations

import json

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


def render(report: dict[str, Any]) -> str:
    """ASCII only, so that no terminal and no locale can spoil it."""
    return json.dumps(report, indent=1) + "\n"
