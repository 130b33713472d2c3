"""SEV on people's machines: the answer that each public report came to."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.judge import judge
from kvmprobe.model.json_schema import first_error, report_schema
from tests.helpers.sev_hosts import of_report

CASES = json.loads(Path(__file__).with_name("sev_cases.json").read_text())
_STATUSES = ("available", "off", "unknown")


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_each_level_has_the_answer_of_the_report(case: dict[str, Any]) -> None:
    report = judge(of_report(case))  # type: ignore[arg-type]
    levels = {level["level"]: level for level in report["sev"]["levels"]}
    expected = {name: answer for name, answer in case["expected"].items() if answer is not None}
    assert {name: levels[name]["cause"] or levels[name]["status"] for name in expected} == expected
    for name, pattern in case.get("hint", {}).items():
        hint = levels[name]["hint"]
        assert hint is not None
        assert re.search(pattern, hint), hint
    for level in levels.values():
        assert level["status"] in _STATUSES
        assert (level["hint"] is None) == (level["status"] == "available")
        assert level["because"] or level["status"] == "unknown"
    assert first_error(report, report_schema(), report_schema()) is None


def test_there_are_enough_reports_and_each_has_its_source() -> None:
    assert len(CASES) >= 15
    assert all(re.match(r"[\w-]+/[\w-]+#\d+", case["source"]) for case in CASES)
