"""How variants, causes and cases are judged, line by line. After a change of the judge, write the file anew and review
the difference:

python -m tests.helpers.judgement_lines >tests/judge/judgements.txt
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.helpers.judgement_lines import sections, stored

EXPECTED = stored()
SECTIONS = dict(sections())


@pytest.mark.parametrize(("head", "give"), SECTIONS.items(), ids=SECTIONS)
def test_evidence_is_judged_as_expected(head: str, give: Callable[[], list[str]]) -> None:
    assert give() == EXPECTED.get(head, [])


def test_each_head_occurs_once() -> None:
    assert len(SECTIONS) == len(list(sections()))


def test_nothing_else_is_expected() -> None:
    assert set(EXPECTED) <= set(SECTIONS)
