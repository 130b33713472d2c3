"""The judge: recorded evidence again, every variant of it, and what every judgement has in common."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.judge import examine, judge
from kvmprobe.judge.causes import CAUSES
from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, WARN
from kvmprobe.judge.check_table import CHECKS
from kvmprobe.judge.facts import Facts
from kvmprobe.model.json_schema import first_error, report_schema
from kvmprobe.model.reasons import REASONS
from tests.helpers.judged_variants import VARIANTS, variant
from tests.helpers.recorded_evidence import RECORDED, recorded, recorded_name
from tests.helpers.variants import BASE, Evidence, set_register

IDS = [variant[0] for variant in VARIANTS]

SCHEMA = report_schema()

# Given by no check, but where something is required: test_requirements.py.
NOT_GIVEN = {"requirement-not-met", "requirement-unknown"}


def evidence_of(base: str, change: Any) -> Any:
    evidence = recorded(base)
    change(evidence)
    return evidence


ALL = [pytest.param(recorded(recorded_name(path)), id=recorded_name(path)) for path in RECORDED]
ALL += [pytest.param(evidence_of(base, change), id=name) for name, base, change, _ in VARIANTS]


@pytest.mark.parametrize("path", RECORDED, ids=recorded_name)
def test_recorded_evidence_is_judged_as_it_is_stored(path: Path) -> None:
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
def test_recorded_evidence_has_the_registers_of_real_kernels(name: str, reason: str, efer: tuple[str, ...]) -> None:
    evidence = recorded(name)
    assert judge(evidence)["verdict"]["reason"] == reason
    assert [{cpu["EFER"] for cpu in s["cpus"].values()} for s in evidence["snapshots"]] == [{value} for value in efer]


@pytest.mark.parametrize(("name", "base", "change", "reason"), VARIANTS, ids=IDS)
def test_a_variant_gets_its_reason(name: str, base: str, change: Any, reason: str) -> None:
    verdict = variant(base, change)["verdict"]
    assert (verdict["reason"], verdict["status"]) == (reason, REASONS[reason].status), verdict


def test_every_reason_has_a_case() -> None:
    cases = {reason for *_, reason in VARIANTS}
    cases |= {json.loads(path.read_text())["verdict"]["reason"] for path in RECORDED}
    assert cases == set(REASONS) - NOT_GIVEN


@pytest.mark.parametrize("evidence", ALL)
def test_a_report_follows_the_schema_and_is_its_outcomes(evidence: Any) -> None:
    report, outcomes = judge(evidence), examine(evidence)
    assert first_error(report, SCHEMA, SCHEMA) is None
    assert [check["id"] for check in report["checks"]] == [outcome.check.id for outcome in outcomes]
    for check, outcome in zip(report["checks"], outcomes):
        result = outcome.result
        assert (check["status"], check["message"], check["hint"]) == (result.status, result.message, result.hint)
        assert check["blocked_by"] == outcome.blocked_by


@pytest.mark.parametrize("evidence", ALL)
def test_the_verdict_is_that_of_a_check(evidence: Any) -> None:
    verdict = judge(evidence)["verdict"]
    wanted = {"confirmed": PASS, "usable": PASS, "failed": FAIL, "not applicable": FAIL, "inconclusive": UNKNOWN}[
        verdict["status"]
    ]
    outcomes = examine(evidence)
    deciders = [o for o in outcomes if (o.result.status, o.result.reason) == (wanted, verdict["reason"])]
    result = deciders[0].result
    cycles = [o.result.message for o in outcomes if o.check.id == "cycles" and o.result is not result]
    assert verdict["summary"] == "; ".join([result.message, *cycles])
    assert (verdict["because"], verdict["hint"]) == (result.because, result.hint)
    assert verdict["cause"] == result.cause
    assert verdict["cause"] is None or verdict["reason"] in CAUSES[verdict["cause"]].reasons
    assert verdict["hint"]
    assert verdict["because"]
    assert len(verdict["because"]) == len(set(verdict["because"]))


@pytest.mark.parametrize("evidence", ALL)
def test_a_check_has_a_reason_of_its_own_status(evidence: Any) -> None:
    statuses = {PASS: ("confirmed", "usable"), FAIL: ("failed", "not applicable"), UNKNOWN: ("inconclusive",)}
    for outcome in examine(evidence):
        result = outcome.result
        if result.reason:
            assert REASONS[result.reason].status in statuses[result.status], outcome.check.id
        assert bool(result.hint) == bool(result.reason)
        assert (outcome.blocked_by is not None) == (result.status == SKIP and result.message.startswith("skipped: "))


@pytest.mark.parametrize("evidence", ALL)
def test_parts_by_cpu_agree_with_the_whole(evidence: Any) -> None:
    cpus = Facts(evidence).cpus
    for outcome in examine(evidence):
        whole, parts = outcome.result, outcome.result.by_cpu
        if not parts:
            continue
        assert whole.status != SKIP
        assert len(parts) > 1
        assert set(parts) <= set(cpus)
        assert (whole.status == FAIL) == any(part.status == FAIL for part in parts.values())
        if whole.status == WARN:
            assert {part.status for part in parts.values()} & {WARN, SKIP}
        assert all(part.message and "\n" not in part.message for part in parts.values())


# Python's values, and words that the project does not use.
_PYTHON = re.compile(r"\b(None|True|False|nan)\b|\{\}|\[\]|\\n")
_WORDS = re.compile(r"\b(told|tells?|says?|said|witness\w*|neighbours?|odd|borrow\w*|mend\w*)\b")


@pytest.mark.parametrize("evidence", ALL)
def test_texts_are_single_lines_of_plain_ascii_english(evidence: Any) -> None:
    report = judge(evidence)
    texts = [report["verdict"]["summary"], report["verdict"]["hint"], *report["verdict"]["because"]]
    texts += [text for check in report["checks"] for text in (check["message"], check["hint"]) if text]
    texts += [part.message for outcome in examine(evidence) for part in outcome.result.by_cpu.values()]
    for text in texts:
        assert text.isascii(), text
        assert text.isprintable(), text
        assert text == text.strip()
        assert "  " not in text
        assert not _PYTHON.search(text), text
        assert not _WORDS.search(text), text
        assert text.count("`") % 2 == 0, text


@pytest.mark.parametrize("phase", ["before", "created"])
@pytest.mark.parametrize("value", [None, {"error": "EIO"}, "0xd01"])
def test_confirmed_needs_the_registers(phase: str, value: Any) -> None:
    """Whatever EFER of one CPU is, the verdict is confirmed only if EFER was read as it should be."""
    evidence = recorded(BASE)
    set_register(evidence, phase, "EFER", value, ("1",))
    confirmed = judge(evidence)["verdict"]["status"] == "confirmed"
    assert confirmed == (phase == "before" and value == "0xd01")


LOADED = [path for path in RECORDED if '"refcount": 0' in path.read_text()]


@pytest.mark.parametrize("path", LOADED, ids=recorded_name)
def test_an_open_device_is_no_vm(path: Path) -> None:
    """A daemon may have /dev/kvm open without a VM; kvm_amd's reference count is then 1."""
    evidence = recorded(recorded_name(path))
    reason = judge(evidence)["verdict"]["reason"]
    for name in ("kvm_amd", "kvm"):
        if name in (evidence["modules"] or {}):
            evidence["modules"][name]["refcount"] = 1
    assert judge(evidence)["verdict"]["reason"] == reason


def test_a_rule_against_the_registers_is_a_warning() -> None:
    evidence: Evidence = recorded(BASE)
    for cpu in ("0", "1"):
        evidence["cpus"]["cpuid"][cpu]["0x80000001"][2] = "0x1"
    report = judge(evidence)
    assert report["verdict"]["status"] == "confirmed"
    assert {c["id"]: c["status"] for c in report["checks"]}["svm-bit"] == "warn"


def test_judging_changes_nothing() -> None:
    for _, base, change, _ in VARIANTS:
        evidence, same = evidence_of(base, change), evidence_of(base, change)
        examine(evidence)
        judge(evidence)
        assert evidence == same


def test_checks_stand_below_checks_that_come_before() -> None:
    seen: set[str | None] = {None}
    for check in CHECKS:
        assert check.parent in seen
        assert check.needs in seen
        seen.add(check.id)


def test_checks_name_the_functions_of_the_kernel() -> None:
    """Before 6.12, and since: kernels that have enable_virt_at_load."""
    renamed = {
        check.id: (check.function, check.since_at_load) for check in CHECKS if check.function != check.since_at_load
    }
    assert renamed == {
        **dict.fromkeys(("vendor", "extended-leaf", "svm-bit", "sev-guest"), ("has_svm", "__kvm_is_svm_supported")),
        "firmware": ("is_disabled", "__kvm_is_svm_supported"),
        "cpus-agree": ("each CPU", "svm_check_processor_compat"),
        **dict.fromkeys(("svme", "registers"), ("svm_hardware_enable", "svm_enable_virtualization_cpu")),
        "release": ("svm_hardware_disable", "svm_disable_virtualization_cpu"),
    }
    same = {check.id: check.function for check in CHECKS if check.id not in renamed}
    assert same == {
        "cycles": "soak",
        "cpuinfo-flag": "/proc/cpuinfo",
        "kvm-amd": "svm_init",
        "kvm-device": "kvm_init",
        "api-version": "kvm_dev_ioctl",
        "create-vm": "kvm_dev_ioctl",
        "left-behind": "kvm_destroy_vm",
        "uevents": "kvm_uevent_notify_change",
        "guest": "svm_vcpu_run",
        "nested": "nested_svm_vmrun",
        "observers": "tracefs",
        "watched": "ptrace",
    }


def test_only_the_vendor_is_judged_where_it_is_another() -> None:
    """The checks about SVM are skipped: neither the SVM bit nor the extended leaves of an Intel CPU matter."""
    outcomes = examine(evidence_of(BASE, VARIANTS[IDS.index("intel")][2]))
    about_svm = [outcome for outcome in outcomes if outcome.check.about_svm]
    assert {outcome.result.message for outcome in about_svm} == {"skipped: vendor failed"}
    assert {outcome.check.id for outcome in outcomes if outcome.result.status != SKIP} == {"vendor"}


def test_the_backend_is_judged_where_the_vendor_is_another() -> None:
    outcomes = {
        o.check.id: o.result.status for o in examine(evidence_of(BASE, VARIANTS[IDS.index("Intel, kvm_intel")][2]))
    }
    judged = {id for id, status in outcomes.items() if status != SKIP}
    assert judged == {"vendor", "kvm-device", "api-version", "create-vm", "uevents", "guest"}
