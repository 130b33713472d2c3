"""Numbers that the kernel shows, as a report has them."""

from __future__ import annotations

import json

import pytest

from kvmprobe.model.json_schema import first_error, report_schema
from kvmprobe.model.values import as_count
from kvmprobe.report.stored_report import evidence_of
from tests.helpers.recorded_evidence import recorded

_U64 = (1 << 64) - 1


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        ("0", None, 0),
        ("12", None, 12),
        (str((1 << 53) - 1), None, (1 << 53) - 1),
        (str(1 << 53), None, None),
        (str(_U64), _U64, _U64),
        (str(_U64 + 1), _U64, None),
        ("1" * 5000, _U64, None),
        ("-1", None, None),
        ("", None, None),
        ("٣", None, None),
        ("1 ", None, None),
    ],
)
def test_only_numbers_that_a_report_can_have(text: str, most: int | None, expected: int | None) -> None:
    assert (as_count(text) if most is None else as_count(text, most)) == expected


@pytest.mark.parametrize("field", ["count", "created"])
def test_the_highest_count_of_a_uevent_is_read_again(field: str) -> None:
    evidence = recorded("matrix/bookworm/epyc")
    evidence["uevents"]["events"][1][field] = _U64
    again = json.loads(json.dumps(evidence))
    assert evidence_of(again, "stored")["uevents"]["events"][1][field] == _U64  # type: ignore[literal-required]
    schema = report_schema()
    assert first_error(again, schema["$defs"]["evidence"], schema) is None
