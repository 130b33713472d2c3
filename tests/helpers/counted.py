"""What tests have counted, for people to read whether the tests pass or fail."""

from __future__ import annotations

# What tests have counted, for people to see whether they pass or fail.
NUMBERS: list[str] = []
