"""Text that is safe to print, whatever evidence says."""

from __future__ import annotations


def clean(text: object) -> str:
    """A line with escapes in place of what cannot be printed.

    What evidence says goes to root's terminal and may come from elsewhere: no control characters, lone surrogates,
    marks that turn the direction of writing.
    """
    line = str(text)
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
