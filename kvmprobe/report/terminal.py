"""What the terminal can show: colours, how many columns, characters beyond ASCII."""

from __future__ import annotations

import os
import sys

_COLUMNS = 80  # of a terminal that does not know its width, such as a serial console


def wants_colour() -> bool:
    """Whether standard output is a terminal that shows colours and nobody objects (NO_COLOR, TERM=dumb)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return _is_terminal()


def width() -> int | None:
    """The columns of the terminal that standard output is; None where it is no terminal."""
    if not _is_terminal():
        return None
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or _COLUMNS
    except OSError:
        return _COLUMNS


def is_ascii() -> bool:
    """Whether the locale is C or POSIX, which have no characters beyond ASCII.

    Python writes UTF-8 there all the same (PEP 540). Where only LC_ALL is not set, it has changed LC_CTYPE to C.UTF-8
    (PEP 538), and that counts.
    """
    environment = os.environ
    locale = environment.get("LC_ALL") or environment.get("LC_CTYPE") or environment.get("LANG") or "C"
    return locale in ("C", "POSIX")


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()
