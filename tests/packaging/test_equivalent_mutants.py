"""The list of mutants that no test can notice is about the source as it is."""

from __future__ import annotations

import pytest

from scripts.judge_mutation.equivalent_mutants import listed
from tests.helpers.run_kvmprobe import PROJECT

LISTED = listed()


@pytest.mark.parametrize("key", LISTED, ids=lambda key: f"{key[0]} {key[1]}")
def test_an_equivalent_mutant_changes_a_line_that_exists_and_has_a_reason(key: tuple[str, str, str, str]) -> None:
    path, _, before, after = key
    source = " ".join(line.strip() for line in (PROJECT / path).read_text().splitlines())
    assert before in source
    assert after != before
    assert LISTED[key]
