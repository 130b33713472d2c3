"""Real kernels for the tests, and what a test does where there are none."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

import pytest

from kvmprobe.model.errors import Problem

Guest = Callable[..., str]


def unavailable(problem: Problem) -> NoReturn:
    """Skips with the reason; fails where real kernels are required."""
    reason = f"no real kernel here: {problem.message}"
    if os.environ.get("KVMPROBE_REQUIRE_KERNELS"):
        pytest.fail(reason)
    pytest.skip(reason)
