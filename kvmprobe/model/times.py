"""Times in reports, always UTC in one format, and durations as people write and read them."""

from __future__ import annotations

import re
import time

FORMAT = "%Y-%m-%dT%H:%M:%SZ"
SKEW_S = 300  # A report's time may be this far ahead of our clock: the clocks of two hosts differ.
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def format_time(seconds: float | None = None) -> str:
    """Return the time `seconds` since the epoch, or now, in FORMAT. A time before 1970 becomes 1970."""
    return time.strftime(FORMAT, time.gmtime(None if seconds is None else max(0, seconds)))


def parse_time(text: str) -> int | None:
    """Return the seconds since the epoch of a time in FORMAT, None for any other text."""
    from calendar import timegm

    try:
        seconds = timegm(time.strptime(text, FORMAT))
        # strptime() also takes one digit for two, and spaces.
        return seconds if time.strftime(FORMAT, time.gmtime(seconds)) == text else None
    except ValueError:
        return None


def parse_duration(text: str) -> int:
    """Return the seconds of a number with its unit: 90m, 26h, 7d.

    A number without a unit raises ValueError: the reader could not know which unit was meant.
    """
    found = re.fullmatch(f"([0-9]{{1,9}})([{''.join(_UNITS)}])", text)
    if not found or not int(found[1]):
        raise ValueError(f"{text!r} is not a number with its unit, such as 90m, 26h or 7d")
    return int(found[1]) * _UNITS[found[2]]


def format_duration(seconds: int) -> str:
    """Return `seconds` in the largest unit of which it has at least two: 45 s, 90 min, 26 h, 3 d."""
    unit = next((unit for unit, size in _UNITS.items() if seconds >= 2 * size), "s")
    return f"{seconds // _UNITS[unit]} {'min' if unit == 'm' else unit}"
