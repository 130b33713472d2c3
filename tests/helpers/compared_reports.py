"""Recorded reports that tests compare, and the changes that a comparison finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kvmprobe.compare import compare
from kvmprobe.compare.difference import SAME, Difference
from kvmprobe.judge import judge
from tests.helpers.recorded_evidence import EVIDENCE, RECORDED, recorded_name
from tests.helpers.run_kvmprobe import PROJECT

MATRIX = EVIDENCE / "matrix"
KERNELS = sorted(path.name for path in MATRIX.iterdir() if path.is_dir())
NAMES = [recorded_name(path) for path in RECORDED]
CONFIRMED, FAILED = "matrix/bookworm/epyc", "matrix/bookworm/held-first"

COMPARE_SCHEMA = json.loads((PROJECT / "kvmprobe/model/compare.schema.json").read_text())

Change = tuple[str, str, str, str, str]  # rating, area, subject, was, now


def differences(old: Any, new: Any) -> list[Difference]:
    """What is not the same between two pieces of evidence."""
    return [found for found in compare(judge(old), judge(new)) if found.rating != SAME]


def changes(old: Any, new: Any) -> set[Change]:
    """The differences without their notes."""
    return {(one.rating, one.area, one.subject, one.was, one.now) for one in differences(old, new)}


def write_json(path: Path, data: Any) -> Path:
    """Writes a file in JSON, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path
