"""Every recorded report and every variant, judged once for all tests that only read them."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from kvmprobe.judge import judge
from tests.helpers.judged_variants import VARIANTS, variant
from tests.helpers.recorded_evidence import RECORDED, recorded, recorded_name


@functools.lru_cache
def all_reports() -> list[Any]:
    """The reports as parameters of a test, with their names as ids. A test must not change them."""
    reports = [pytest.param(judge(recorded(recorded_name(path))), id=recorded_name(path)) for path in RECORDED]
    return reports + [pytest.param(variant(base, change), id=name) for name, base, change, _ in VARIANTS]
