"""What --help shows, read from what it prints: not from the parser, which the manual and the completions come from."""

from __future__ import annotations

import functools
import re

from tests.helpers.run_kvmprobe import kvmprobe


@functools.cache
def commands(path: str = "") -> dict[str, frozenset[str]]:
    """The options of each command below `path`, by the words after kvmprobe; "" is kvmprobe alone."""
    shown = kvmprobe(*path.split(), "--help").stdout
    options = {
        string
        for line in re.findall(r"^  (-.*)", shown, re.MULTILINE)
        for string in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", line.split("  ")[0])
    }
    found = {path: frozenset(options)}
    for name in re.findall(r"^    ([a-z]+)\b", shown, re.MULTILINE) if "  COMMAND\n" in shown else ():
        found.update(commands(f"{path} {name}".strip()))
    return found


def groups() -> dict[str, set[str]]:
    """The commands that have commands, with these."""
    found: dict[str, set[str]] = {}
    for path in commands():
        if path:
            *group, name = path.split()
            found.setdefault(" ".join(group), set()).add(name)
    return found
