"""The whole report as JSON, for tools and for `kvmprobe judge`."""

from __future__ import annotations

import json

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def render(report: Mapping[str, object]) -> str:
    """The report in ASCII, which every locale can write."""
    return json.dumps(report, indent=1) + "\n"
