"""Waiting for what happens in another process."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.helpers.run_kvmprobe import DEADLINE_S


def wait_until(condition: Callable[[], bool]) -> bool:
    """Wait until `condition` is true, at most DEADLINE_S, and return its last value."""
    ends = time.monotonic() + DEADLINE_S
    while not (value := condition()) and time.monotonic() < ends:
        time.sleep(0.01)
    return value
