"""--require and the host around KVM in a guest with an IOMMU: what its kernel shows, asked with one boot."""

from __future__ import annotations

import json

import pytest

from kvmprobe.judge import judge
from kvmprobe.judge.requirements.demands import parse_list
from tests.helpers.real_kernels import Guest

pytestmark = pytest.mark.kernel

_ANSWERS = {
    "iommu": "met",
    "cpus>=2": "met",
    "registers": "met",
    "kernel<6.2": "met",
    "smt": "not-met",
    "tun": "not-met",
}


def test_a_guest_with_an_iommu_has_it(guest: Guest) -> None:
    script = """
$kvmprobe check --json --require 'iommu,cpus>=2,registers,kernel<6.2' >/report 2>/messages; echo $?; cat /report
$kvmprobe judge -q /report --require 'cpus>=64' >/messages 2>&1; echo $?
"""
    first, *rest = guest(script, devices=("amd-iommu",), parameters="mitigations=off").splitlines()
    report = json.loads("\n".join(rest[:-1]))
    context = report["evidence"]["context"]
    assert context["iommu"]["tables"] == ["IVRS"]
    assert context["iommu"]["devices"] == ["ivhd0"]
    assert context["iommu"]["groups"] == sum(context["iommu"]["types"].values()) > 0
    assert context["vulnerabilities"]["spectre_v2"].startswith("Vulnerable")
    assert context["devices"]["tun"]["type"] is None
    again = judge(report["evidence"], parse_list(",".join(_ANSWERS)))
    assert {row["name"]: row["status"] for row in again["requirements"]} == _ANSWERS
    assert first == "0", report["verdict"]
    assert rest[-1] == "1"
