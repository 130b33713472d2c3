"""Judging: recorded evidence again, and a variant for every reason."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from kvmprobe import judge as judge_package
from kvmprobe.formats import text
from kvmprobe.judge import judge
from kvmprobe.judge.check_table import CHECKS
from kvmprobe.model.reasons import EXIT_STATUS, REASONS
from tests.helpers.judged_variants import VARIANTS, variant
from tests.helpers.recorded_evidence import RECORDED, recorded, recorded_name
from tests.helpers.variants import Evidence, set_register

IDS = [variant[0] for variant in VARIANTS]


@pytest.mark.parametrize("path", RECORDED, ids=recorded_name)
def test_recorded_evidence_gets_the_same_judgement_again(path: Path) -> None:
    report = json.loads(path.read_text())
    again = judge(report["evidence"])
    assert again["verdict"] == report["verdict"]
    assert again["checks"] == report["checks"]


@pytest.mark.parametrize(
    ("name", "reason", "efer"),
    [
        ("matrix/bookworm/epyc", "svme-set-by-create-vm", ("0xd01", "0x1d01", "0xd01")),
        ("matrix/trixie/epyc", "svme-set-at-module-load", ("0x1d01", "0x1d01", "0x1d01")),
        ("matrix/trixie/no-virt-at-load", "svme-set-by-create-vm", ("0xd01", "0x1d01", "0xd01")),
    ],
)
def test_recorded_evidence_is_what_real_kernels_gave(name: str, reason: str, efer: tuple[str, ...]) -> None:
    evidence = recorded(name)
    assert judge(evidence)["verdict"]["reason"] == reason
    assert [{cpu["EFER"] for cpu in s["cpus"].values()} for s in evidence["snapshots"]] == [{value} for value in efer]


@pytest.mark.parametrize(("name", "base", "change", "reason"), VARIANTS, ids=IDS)
def test_variant_gets_its_reason(name: str, base: str, change: Any, reason: str) -> None:
    report = variant(base, change)
    assert report["verdict"]["reason"] == reason, report["verdict"]
    assert report["verdict"]["status"] == REASONS[reason].status
    assert report["verdict"]["summary"]
    assert report["verdict"]["hint"]
    for verbose in (-1, 0, 1):
        assert reason in text.render(report, verbose)


LOADED = [path for path in RECORDED if '"refcount": 0' in path.read_text()]


@pytest.mark.parametrize("path", LOADED, ids=recorded_name)
def test_an_open_device_is_no_vm(path: Path) -> None:
    """A daemon may have /dev/kvm open and no VM; kvm_amd's reference count is then 1 all the same."""
    evidence = recorded(recorded_name(path))
    reason = judge(evidence)["verdict"]["reason"]
    for name in ("kvm_amd", "kvm"):
        if name in (evidence["modules"] or {}):
            evidence["modules"][name]["refcount"] = 1
    assert judge(evidence)["verdict"]["reason"] == reason


def test_every_reason_has_a_case() -> None:
    cases = {reason for *_, reason in VARIANTS}
    cases |= {json.loads(path.read_text())["verdict"]["reason"] for path in RECORDED}
    assert cases == set(REASONS)


def test_the_table_is_the_promised_one() -> None:
    """Reasons and their status are promised to the outside: none goes or changes within a schema version."""
    statuses = {name: reason.status for name, reason in REASONS.items()}
    assert statuses == {
        **dict.fromkeys(
            ("svme-set-by-create-vm", "svme-set-at-module-load", "svme-set-by-another-vm"),
            "confirmed",
        ),
        **dict.fromkeys(("vendor-not-amd", "kvm-without-svm"), "not applicable"),
        **dict.fromkeys(
            (
                "witnesses-disagree",
                "cpu-lacks-svm",
                "firmware-disabled",
                "firmware-disabled-with-key",
                "sev-guest",
                "kvm-amd-not-loaded",
            ),
            "failed",
        ),
        **dict.fromkeys(("kvm-amd-load-failed", "kvm-device-missing", "api-version"), "failed"),
        **dict.fromkeys(("svm-held-by-another-owner", "create-vm-failed", "svme-not-set"), "failed"),
        **dict.fromkeys(("svme-not-cleared", "cpus-disagree", "guest-failed"), "failed"),
        **dict.fromkeys(("kvm-not-permitted", "msr-unreadable", "interfered"), "inconclusive"),
    }
    assert EXIT_STATUS == {"confirmed": 0, "failed": 1, "inconclusive": 3, "not applicable": 4}


@pytest.mark.parametrize("phase", ["before", "created"])
@pytest.mark.parametrize("value", [None, {"error": "EIO"}, "0xd01"])
def test_confirmed_needs_the_registers(phase: str, value: Any) -> None:
    """Whatever one CPU's EFER was, "confirmed" is said only if it was read as it should be."""
    evidence = recorded("matrix/bookworm/epyc")
    set_register(evidence, phase, "EFER", value, ("1",))
    confirmed = judge(evidence)["verdict"]["status"] == "confirmed"
    assert confirmed == (phase == "before" and value == "0xd01")


def test_a_rule_against_the_registers_is_a_warning() -> None:
    evidence: Evidence = recorded("matrix/bookworm/epyc")
    for cpu in ("0", "1"):
        evidence["cpus"]["cpuid"][cpu]["0x80000001"][2] = "0x1"
    report = judge(evidence)
    assert report["verdict"]["status"] == "confirmed"
    assert {c["id"]: c["status"] for c in report["checks"]}["svm-bit"] == "warn"


def test_a_hidden_flag_is_told_from_a_missing_one() -> None:
    """Since 6.7 the kernel drops svm from /proc/cpuinfo when the firmware disabled it."""
    evidence = recorded("matrix/bookworm/epyc")
    for info in evidence["cpus"]["cpuinfo"].values():
        info["flags"].remove("svm")
    check = next(c for c in judge(evidence)["checks"] if c["id"] == "cpuinfo-flag")
    assert check["status"] == "warn"
    assert "hides" in check["message"]


def test_children_of_a_failed_check_are_skipped_and_say_why() -> None:
    report = variant("matrix/bookworm/epyc", VARIANTS[IDS.index("SVMDIS")][2])
    blocked = {c["id"]: c["blocked_by"] for c in report["checks"] if c["blocked_by"]}
    assert blocked["kvm-amd"] == blocked["create-vm"] == blocked["svme"] == "firmware"


def test_summary_names_the_cpus_that_differ() -> None:
    assert "cpu1" in variant("matrix/bookworm/epyc", VARIANTS[IDS.index("SVME 0 on cpu1")][2])["verdict"]["summary"]


def test_judging_changes_nothing() -> None:
    evidence = recorded("matrix/bookworm/epyc")
    judge(evidence)
    assert evidence == recorded("matrix/bookworm/epyc")


def test_checks_stand_under_checks_that_come_before() -> None:
    seen: set[str | None] = {None}
    for check in CHECKS:
        assert check.parent in seen
        assert check.needs in seen
        seen.add(check.id)


def test_the_judge_imports_nothing_that_touches_the_machine() -> None:
    allowed = {"judge", "model"}
    for path in Path(judge_package.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kvmprobe."):
                assert (node.module or "").split(".")[1] in allowed, path
            if isinstance(node, ast.Import):
                assert {alias.name for alias in node.names} <= {"struct"}, path
