"""Evidence taken from real kernels, stored among the tests."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

EVIDENCE = Path(__file__).parents[1] / "evidence"


RECORDED = sorted(path for path in EVIDENCE.rglob("*.json") if path.name != "summary.json")


def recorded(name: str) -> Any:
    """A copy of the evidence in a recorded report, to be judged as it is or changed first."""
    return copy.deepcopy(json.loads((EVIDENCE / f"{name}.json").read_text())["evidence"])


def recorded_name(path: Path) -> str:
    return str(path.relative_to(EVIDENCE).with_suffix(""))
