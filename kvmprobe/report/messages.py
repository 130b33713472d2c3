"""Progress, warnings and errors: lines on standard error."""

from __future__ import annotations

import sys

from kvmprobe.model.printable import ascii_only, clean
from kvmprobe.report import terminal


def say(message: str, hint: str | None = None) -> None:
    """Write `message` to standard error as one line, and `hint` (what to do) indented below it.

    Unprintable characters are escaped: a newline in the name of a file begins no line. A closed or full standard error
    is no error.
    """
    lines = [clean(message)]
    if hint:
        lines.append(f"  {clean(hint)}")
    text = "\n".join(lines)
    try:
        if sys.stderr is not None:
            print(ascii_only(text) if terminal.is_ascii() else text, file=sys.stderr, flush=True)
    except OSError:
        pass


def warn(message: str) -> None:
    """Write a warning: what kvmprobe found is incomplete, or it leaves something changed."""
    say(f"kvmprobe: warning: {message}")
