"""The table of the changes to KVM: linux-SERIES.mutants, read and checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SUFFIX = ".mutants"
NONE = "none"  # as the command: nothing that can be read shows the change


@dataclass(frozen=True)
class Edit:
    """The lines `original` of the file `path` (in the kernel's source) become the lines `changed`."""

    path: str
    original: str
    changed: str


@dataclass(frozen=True)
class Mutant:
    """A change to KVM. `number` is the value of the module parameter that chooses it; 0 is the good kernel.

    `command` is the command that should catch it, or NONE; `expected` are the answers that are right. `before`: the
    state of the guest's registers before a command, `cpu`: QEMU's -cpu; "" for the usual one.
    """

    number: int
    name: str
    change: str
    command: str
    expected: tuple[str, ...]
    before: str
    cpu: str
    edits: tuple[Edit, ...]


def read(path: Path) -> list[Mutant]:
    """Returns the mutants in the file `path`, numbered from 1. Raises ValueError with the line that is wrong."""
    blocks = list(_blocks(path.read_text()))
    mutants = [_mutant(number, block) for number, block in enumerate(blocks, 1)]
    names = [mutant.name for mutant in mutants]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two mutants have the name {name}")
    return mutants


def _blocks(text: str) -> Iterator[list[str]]:
    """The lines of each mutant. A line that begins with a name begins a block."""
    block: list[str] = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if line[0] not in " @-+":
            if block:
                yield block
            block = []
        block.append(line)
    if block:
        yield block


def _mutant(number: int, block: list[str]) -> Mutant:
    name, separator, change = block[0].partition(": ")
    if not separator:
        raise ValueError(f"{block[0]!r} is not NAME: CHANGE")
    values = dict(_value(line) for line in block[1:] if line[0] == " ")
    if "catch" not in values:
        raise ValueError(f"{name} has no catch")
    command, *expected = values.pop("catch").split()
    before, cpu = values.pop("before", ""), values.pop("cpu", "")
    if values:
        raise ValueError(f"{name}: unknown: {', '.join(values)}")
    edits = tuple(_edits(name, [line for line in block[1:] if line[0] != " "]))
    return Mutant(number, name, change, command, tuple(expected), before, cpu, edits)


def _value(line: str) -> tuple[str, str]:
    key, separator, value = line.strip().partition(": ")
    if not separator:
        raise ValueError(f"{line!r} is not KEY: VALUE")
    return key, value


def _edits(name: str, lines: list[str]) -> Iterator[Edit]:
    path = ""
    original: list[str] = []
    changed: list[str] = []

    def complete() -> Edit:
        if not path or not original or not changed:
            raise ValueError(f"{name}: an edit has a file (@), lines (-) and what replaces them (+)")
        return Edit(path, _text(original), _text(changed))

    for line in lines:
        if line[0] == "@" or (line[0] == "-" and changed):
            if path and (original or changed):
                yield complete()
                original, changed = [], []
            if line[0] == "@":
                path = line[1:].strip()
                continue
        (original if line[0] == "-" else changed).append(line[1:])
    yield complete()


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
