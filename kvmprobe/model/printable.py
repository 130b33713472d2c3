"""Text for people: safe to print, in columns, wrapped, coloured. No module reads the terminal here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

# SGR sequences (ECMA-48, 8.3.117), which all terminals of Linux know.
BOLD, RED, GREEN, YELLOW, CYAN, PLAIN = (f"\033[{code}m" for code in (1, 31, 32, 33, 36, 0))

# By a check's status, and by a verdict's.
COLOURS = {
    "pass": GREEN,
    "fail": RED,
    "warn": YELLOW,
    "unknown": YELLOW,
    "skip": CYAN,
    "confirmed": GREEN,
    "usable": GREEN,
    "failed": RED,
    "inconclusive": YELLOW,
    "not applicable": CYAN,
}

# The signs that kvmprobe's own texts use beyond ASCII.
_ASCII_SIGNS = str.maketrans({"→": "->", "…": "...", "µ": "u", "·": "-"})


def clean(text: object) -> str:
    """`text` as one line without anything unprintable: escapes replace what cannot be printed.

    Evidence may come from another machine, and root's terminal shows it: control characters, lone surrogates and marks
    that change the direction of writing must not reach it.
    """
    line = str(text)
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)


def process_text(name: str | None, pid: int | str | None) -> str:
    """A process for people: "qemu[77]", "?[77]" without a name."""
    return f"{name or '?'}[{pid}]"


def one_line(text: object, joint: str = "; ") -> str:
    """The lines of `text`, without the blank ones and the space around them, joined by `joint` and made `clean`."""
    return joint.join(clean(line.strip()) for line in str(text).splitlines() if line.strip())


def ascii_only(text: str) -> str:
    """`text` in ASCII: "->" replaces "→", "..." replaces "…", an escape such as \\xe4 replaces any other character."""
    if text.isascii():
        return text
    return text.translate(_ASCII_SIGNS).encode("ascii", "backslashreplace").decode("ascii")


def columns(rows: Sequence[Sequence[str]], gap: str = "  ") -> list[str]:
    """One line for each of `rows` (lists of cells), with all cells of a column as wide as its widest one.

    A row may be shorter than others. A line does not end in spaces.
    """
    widths = [max(map(len, column)) for column in _transposed(rows)]
    return [gap.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _transposed(rows: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    for index in range(max(map(len, rows), default=0)):
        yield [row[index] for row in rows if index < len(row)]


def wrap(text: str, width: int | None, first: str = "", rest: str = "") -> list[str]:
    """`text` in lines of at most `width` characters; in one line where `width` is None.

    `first` stands before the first line and may have colours; `rest`, usually spaces (a hanging indent), before all
    others. Lines break at spaces only: a word that is too long for a line has a line of its own.
    """
    if width is None:
        return [first + text]
    lines, rooms = [""], [width - _seen(first)]
    for word in re.findall(" *[^ ]+", text):  # with the spaces before it
        if lines[-1] and len(lines[-1]) + len(word) > rooms[-1]:
            lines.append(word.lstrip(" "))
            rooms.append(width - len(rest))
        else:
            lines[-1] += word
    return [first + lines[0], *(rest + line for line in lines[1:])]


def _seen(text: str) -> int:
    """The columns of `text`: its characters without colours."""
    head, *others = text.split("\033[")
    return len(head) + sum(len(other.partition("m")[2]) for other in others)


def paint(text: str, colour: str, wanted: bool = True) -> str:
    """`text` in `colour` (one or more of the sequences above, joined), or as it is where no colour is wanted."""
    return f"{colour}{text}{PLAIN}" if wanted and colour else text


def counted(number: int, what: str) -> str:
    """ "1 CPU", "2 CPUs", "1,024 processes"."""
    plural = "es" if what.endswith("s") else "s"
    return f"{number:,} {what}{'' if number == 1 else plural}"


def cut(text: str, longest: int, end: str = "…") -> str:
    """`text`, or its beginning and `end` where it is longer than `longest` characters."""
    return text if len(text) <= longest else text[: longest - len(end)] + end


def joined(lines: Iterable[str]) -> str:
    """`lines` as one text. Each ends in a newline."""
    return "".join(f"{line}\n" for line in lines)
