"""The outputs of all tools in all guests, stored: so the page can be written again without a boot.

Each line of stored_answers.jsonl is one cell: row, kernel, and each tool's exit status and telling lines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from scripts.tool_comparison.answers import ToolOutput

FILE = Path(__file__).with_suffix(".jsonl")

Cells = dict[tuple[str, str], dict[str, ToolOutput]]  # by the names of row and kernel; the outputs by tool


def load(file: Path = FILE) -> Cells:
    """Returns the stored outputs; none if there is no file yet."""
    if not file.exists():
        return {}
    cells: Cells = {}
    for line in file.read_text().splitlines():
        stored = json.loads(line)
        outputs = {tool: ToolOutput(status, output) for tool, (status, output) in stored["outputs"].items()}
        cells[stored["row"], stored["kernel"]] = outputs
    return cells


def save(cells: Mapping[tuple[str, str], dict[str, ToolOutput]], file: Path = FILE) -> None:
    """Writes all outputs, sorted, so that two files can be compared."""
    lines = []
    for (row, kernel), outputs in sorted(cells.items()):
        found = {tool: [output.status, output.output] for tool, output in outputs.items()}
        lines.append(json.dumps({"row": row, "kernel": kernel, "outputs": found}) + "\n")
    file.write_text("".join(lines))
