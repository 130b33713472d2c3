"""How variants are judged, line by line. After a change of the judge, write the file anew and review the difference:

python -m tests.helpers.judgement_lines >tests/judge/judgements.txt
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.judged_variants import VARIANTS
from tests.helpers.judgement_lines import of_recorded, of_variant
from tests.helpers.recorded_evidence import RECORDED, recorded_name

STORED = Path(__file__).with_name("judgements.txt").read_text()
EXPECTED = {section.partition("\n")[0]: section.splitlines()[1:] for section in STORED.split("== ")[1:]}
HEADS = [f"{name} ({base})" for name, base, *_ in VARIANTS]


@pytest.mark.parametrize(("name", "base", "change", "reason"), VARIANTS, ids=[variant[0] for variant in VARIANTS])
def test_a_variant_is_judged_as_expected(name: str, base: str, change: Any, reason: str) -> None:
    assert of_variant(base, change) == EXPECTED[f"{name} ({base})"]


@pytest.mark.parametrize("name", [recorded_name(path) for path in RECORDED])
def test_recorded_evidence_has_its_parts_by_cpu(name: str) -> None:
    assert of_recorded(name) == EXPECTED.get(name, [])


def test_nothing_else_is_expected() -> None:
    assert set(EXPECTED) <= {*HEADS, *map(recorded_name, RECORDED)}
