"""What tests do on a machine that cannot boot real kernels."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

import pytest

from kvmprobe.model.errors import Problem

Guest = Callable[..., str]  # the fixture `guest` of tests/lab


def unavailable(problem: Problem) -> NoReturn:
    """Skips the test with the reason. Fails it if KVMPROBE_REQUIRE_KERNELS is set."""
    reason = f"no real kernel: {problem.message}"
    if os.environ.get("KVMPROBE_REQUIRE_KERNELS"):
        pytest.fail(reason)
    pytest.skip(reason)
