"""--require: each requirement answered from recorded evidence, and the verdict that follows."""

from __future__ import annotations

from typing import Any

import pytest

from kvmprobe.judge import judge
from kvmprobe.judge.requirements.demands import parse_list
from kvmprobe.model.json_schema import first_error, report_schema
from kvmprobe.model.reasons import REASONS
from tests.helpers.recorded_evidence import recorded

CONFIRMED = "matrix/trixie/epyc"  # 2 CPUs, Linux 6.12, microcode 0x1000065


def required(evidence: Any, text: str) -> Any:
    """The report for evidence and the requirements in `text`, which follows the schema."""
    report = judge(evidence, parse_list(text))
    assert first_error(report, report_schema(), report_schema()) is None
    return report


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("registers", "confirmed", "svme-set-at-module-load"),
        ("registers,cpus>=2,cpus<=2,cpus=2,kernel>=6.12", "confirmed", "svme-set-at-module-load"),
        ("cpus>=3", "failed", "requirement-not-met"),
        ("cpus>=2,cpus>=64", "failed", "requirement-not-met"),
        ("kernel<6.12", "failed", "requirement-not-met"),
        ("microcode>=0x0A201210", "inconclusive", "requirement-unknown"),
        ("microcode>=0x0A201210,cpus>=64", "failed", "requirement-not-met"),
    ],
)
def test_the_verdict_stays_good_only_where_all_requirements_are_met(text: str, status: str, reason: str) -> None:
    report = required(recorded(CONFIRMED), text)
    verdict = report["verdict"]
    assert (verdict["status"], verdict["reason"]) == (status, reason)
    assert REASONS[reason].status == status
    assert [row["name"] for row in report["requirements"]] == text.split(",")
    for row in report["requirements"]:
        decides = row["status"] != "met" and (status == "failed") == (row["status"] == "not-met")
        assert decides == (row["name"] in verdict["summary"])


@pytest.mark.parametrize("name", ["matrix/bookworm/no-svm", "matrix/trixie/held-second"])
def test_a_failed_verdict_stays_what_it_is(name: str) -> None:
    evidence = recorded(name)
    report = required(evidence, "cpus>=64,registers")
    assert report["verdict"] == judge(evidence)["verdict"]
    assert report["verdict"]["status"] == "failed"
    assert [row["status"] for row in report["requirements"]] == ["not-met", "not-met"]


def test_a_report_without_requirements_has_no_such_key() -> None:
    assert "requirements" not in judge(recorded(CONFIRMED))
