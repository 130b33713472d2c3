"""Reports of real kernels and hosts, stored in tests/evidence."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

EVIDENCE = Path(__file__).parents[1] / "evidence"


CASES = sorted((EVIDENCE / "cases").glob("*.json"))
RECORDED = sorted(
    path for path in EVIDENCE.rglob("*.json") if path.name != "summary.json" and path.parent.name != "cases"
)


def recorded(name: str) -> Any:
    """Return a copy of the evidence in a recorded report ("matrix/bookworm/epyc"), which the caller may change."""
    return json.loads(_text(name))["evidence"]


@functools.cache
def _text(name: str) -> str:
    return (EVIDENCE / f"{name}.json").read_text()


def recorded_name(path: Path) -> str:
    """Return the name of a recorded report, as recorded() takes it."""
    return str(path.relative_to(EVIDENCE).with_suffix(""))
