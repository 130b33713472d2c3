"""Reports that were written before a name or a field changed stay readable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kvmprobe.judge import judge
from kvmprobe.model.json_schema import first_error, report_schema
from kvmprobe.model.reasons import RENAMED_REASONS
from kvmprobe.report.stored_report import load
from tests.helpers.recorded_evidence import EVIDENCE


def old_report(reason: str, check: str) -> Any:
    """A report as it was before `cause` and `because`, with names of that time."""
    report = json.loads((EVIDENCE / "trace/bookworm-create.json").read_text())
    for field in ("cause", "because"):
        del report["verdict"][field]
    report["verdict"].update(status="failed", reason=reason)
    report["checks"][-1]["id"] = check
    return report


@pytest.mark.parametrize("reason", [*RENAMED_REASONS, "interfered", "svme-not-set"])
@pytest.mark.parametrize("check", ["witnesses", "release"])
def test_an_old_report_is_read_and_its_evidence_judged(reason: str, check: str, tmp_path: Path) -> None:
    report = old_report(reason, check)
    schema = report_schema()
    jsonschema.validate(report, schema)
    assert first_error(report, schema, schema) is None
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert judge(*load(str(tmp_path / "report.json")))["verdict"]["reason"] == "svme-set-by-create-vm"


def test_a_reason_that_never_was_is_an_error() -> None:
    schema = report_schema()
    assert first_error(old_report("no-such-reason", "release"), schema, schema) is not None
