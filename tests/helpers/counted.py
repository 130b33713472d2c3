"""Numbers that tests count: printed at the end of the run, whether the tests pass or fail."""

from __future__ import annotations

NUMBERS: list[str] = []
