"""Progress, warnings and errors: lines on standard error."""

from __future__ import annotations

import sys

from kvmprobe.model.printable import ascii_only, clean
from kvmprobe.report import terminal


def say(message: str, hint: str | None = None) -> None:
    """Write `message` to standard error, and `hint` (what to do) indented below it.

    Unprintable characters are escaped, newlines in `message` are kept. A closed or full standard error is no error.
    """
    lines = [clean(line) for line in message.splitlines()]
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
