"""The list of mutants that no test can notice, each with a reason: equivalent_mutants.txt."""

from __future__ import annotations

from pathlib import Path

LIST = Path(__file__).with_suffix(".txt")

Key = tuple[str, str, str, str]


def listed(path: Path = LIST) -> dict[Key, str]:
    """The mutants of a list and their reasons: blocks of "PATH FUNCTION", "- before", "+ after", "= reason"."""
    found = {}
    for block in path.read_text().split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        if lines:
            where, before, after, *reasons = lines
            path_name, function = where.split(" ", 1)
            found[path_name, function, before[2:], after[2:]] = " ".join(line[2:] for line in reasons)
    return found


def block_of(key: Key, reason: str = "") -> str:
    """A mutant as the list has it."""
    path, function, before, after = key
    return f"{path} {function}\n- {before}\n+ {after}\n= {reason}\n"
