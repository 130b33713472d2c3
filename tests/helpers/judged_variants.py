"""Variants of recorded evidence, judged."""

from __future__ import annotations

from typing import Any

from kvmprobe.judge import judge
from tests.helpers.recorded_evidence import recorded
from tests.helpers.variants import VARIANTS as OF_A_PROBE
from tests.helpers.watch_variants import WATCHED

VARIANTS = (*OF_A_PROBE, *WATCHED)


def variant(base: str, change: Any) -> Any:
    evidence = recorded(base)
    change(evidence)
    return judge(evidence)
