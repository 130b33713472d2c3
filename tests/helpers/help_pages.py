"""The commands and options that --help prints. Not from the parser: the manual and the completions come from that."""

from __future__ import annotations

import functools
import re

from tests.helpers.run_kvmprobe import kvmprobe


@functools.cache
def commands(path: str = "") -> dict[str, frozenset[str]]:
    """The options of `path` and of each command below it, by the words after kvmprobe; "" is kvmprobe alone."""
    shown = kvmprobe(*path.split(), "--help").stdout
    options = {
        string
        for line in re.findall(r"^  (-.*)", shown, re.MULTILINE)
        for string in re.findall(r"(?<![\w-])--?[A-Za-z][a-z-]*", line.split("  ")[0])
    }
    found = {path: frozenset(options)}
    for name in re.findall(r"^    ([a-z]+)\b", shown, re.MULTILINE) if "  COMMAND\n" in shown else ():
        found.update(commands(f"{path} {name}".strip()))
    return found


def groups() -> dict[str, set[str]]:
    """The commands that have subcommands, with the names of these."""
    found: dict[str, set[str]] = {}
    for path in commands():
        if path:
            *group, name = path.split()
            found.setdefault(" ".join(group), set()).add(name)
    return found
