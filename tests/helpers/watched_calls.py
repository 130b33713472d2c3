"""What every report of a watched command must show."""

from __future__ import annotations

from typing import Any

from kvmprobe.host.kvm import REQUESTS
from kvmprobe.judge import judge
from kvmprobe.model.json_schema import first_error, report_schema

CALLS = ["KVM_GET_API_VERSION", "KVM_CREATE_VM", "KVM_CREATE_VCPU"]


def check_report(report: Any) -> None:
    """Check that a report follows its schema, gives the same verdict when judged again, and names each request."""
    schema = report_schema()
    assert first_error(report, schema, schema) is None
    assert judge(report["evidence"])["verdict"] == report["verdict"]
    for call in report["evidence"]["watch"]["calls"]:
        assert int(call["request"], 16) == REQUESTS[call["name"]]
