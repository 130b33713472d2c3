"""How old a report may be: as people write it, and as they read it."""

from __future__ import annotations

import argparse
import re

SKEW_S = 300  # so far the clock of a report's host may be ahead of ours
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def seconds(text: str) -> int:
    """Of a number and its unit, such as 26h; for argparse. Without a unit nobody knows which one was meant."""
    found = re.fullmatch(f"([0-9]{{1,9}})([{''.join(_UNITS)}])", text)
    if not found or not int(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number with its unit, such as 90m, 26h or 7d")
    return int(found[1]) * _UNITS[found[2]]


def text(duration: int) -> str:
    """`duration` (seconds) in the largest unit of which it has two."""
    unit = next((unit for unit, size in _UNITS.items() if duration >= 2 * size), "s")
    return f"{duration // _UNITS[unit]} {'min' if unit == 'm' else unit}"


def seconds_of(taken_at: str) -> int | None:
    """Seconds since the epoch of a time as in `taken_at`; None for anything else."""
    from calendar import timegm
    from time import strptime

    try:
        return timegm(strptime(taken_at, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return None
