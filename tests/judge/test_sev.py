"""The chain of SEV's conditions: each broken alone and in pairs, KVM's own answer, and what is unknown."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from kvmprobe.judge import judge
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.requirements.demands import parse_list
from kvmprobe.judge.sev import SEV_STEPS, judge_sev
from kvmprobe.judge.sev.sev_step import LEVELS
from kvmprobe.model.json_schema import first_error, report_schema
from tests.helpers.broken_sev import BROKEN, EXCLUSIVE, set_answer
from tests.helpers.sev_hosts import Evidence, in_order, log

STEPS = {step.name: step for step in SEV_STEPS}
NAMES = list(BROKEN)


def levels(evidence: Evidence) -> dict[str, Any]:
    """The answers by level."""
    report: Any = judge_sev(Facts(evidence))  # type: ignore[arg-type]
    return {level["level"]: level for level in report["levels"]}


def answers(evidence: Evidence) -> dict[str, str]:
    """The cause by level, or the status where there is none."""
    return {name: level["cause"] or level["status"] for name, level in levels(evidence).items()}


def broken(*names: str) -> Evidence:
    """A host with these conditions broken. KVM offers the levels that need none of them."""
    evidence = in_order()
    for level in LEVELS:
        set_answer(evidence, level, not any(level in STEPS[name].levels for name in names))
    for name in names:
        BROKEN[name](evidence)
    return evidence


def test_every_condition_is_broken_in_the_kernels_order() -> None:
    assert [step.name for step in SEV_STEPS if not step.is_last_resort] == NAMES


def test_a_host_in_order_has_all_levels() -> None:
    report = judge(broken())  # type: ignore[arg-type]
    assert answers(broken()) == dict.fromkeys(LEVELS, "available")
    assert {step["status"] for step in report["sev"]["steps"]} == {"pass"}
    assert first_error(report, report_schema(), report_schema()) is None
    assert levels(broken())["sev-snp"]["message"].endswith(": ASIDs 1 to 99")


@pytest.mark.parametrize("name", NAMES)
def test_a_condition_broken_alone_is_the_cause(name: str) -> None:
    found = levels(broken(name))
    for level in LEVELS:
        expected = name if level in STEPS[name].levels else None
        assert found[level]["cause"] == expected, found[level]
        if expected:
            assert found[level]["because"]
            assert "{" not in found[level]["hint"]


def test_of_two_broken_conditions_the_first_in_the_kernels_order_is_the_cause() -> None:
    wrong = {}
    for first, second in itertools.combinations(NAMES, 2):
        if (first, second) in EXCLUSIVE:
            continue
        found = answers(broken(first, second))
        for level in LEVELS:
            expected = next((name for name in (first, second) if level in STEPS[name].levels), "available")
            if found[level] != expected:
                wrong[first, second, level] = found[level]
    assert wrong == {}


@pytest.mark.parametrize("level", LEVELS)
def test_what_kvm_offers_is_available_whatever_a_rule_states(level: str) -> None:
    evidence = broken("sev-smm-not-locked", "sev-snp-iommu-off", "sev-es-mmio-caching-off")
    assert answers(evidence)[level] != "available"
    evidence["ioctls"]["KVM_CHECK_EXTENSION"]["KVM_CAP_VM_TYPES"] = 0b11101
    found = levels(evidence)[level]
    assert (found["status"], found["cause"], found["hint"]) == ("available", None, None)
    assert found["because"][0].startswith("KVM_CAP_VM_TYPES = 0x1d")


@pytest.mark.parametrize("name", [step.name for step in SEV_STEPS if step.beats_kvm])
def test_a_firmware_that_cannot_start_a_guest_beats_what_kvm_offers(name: str) -> None:
    evidence = broken(name)
    evidence["ioctls"]["KVM_CHECK_EXTENSION"]["KVM_CAP_VM_TYPES"] = 0b11101
    for level in STEPS[name].levels:
        assert answers(evidence)[level] == name


def test_without_a_failed_condition_the_last_resorts_are_asked() -> None:
    evidence = in_order()
    assert answers(evidence) == {"sev": "sev-loaded-off", "sev-es": "sev-loaded-off", "sev-snp": "sev-loaded-off"}
    set_answer(evidence, "sev", True)
    assert answers(evidence)["sev-es"] == "sev-es-loaded-off"
    set_answer(evidence, "sev-es", True)
    assert answers(evidence)["sev-snp"] == "sev-snp-loaded-off"
    for registers in evidence["sev"]["registers"].values():
        registers["SYSCFG"] = "0xf40000"
    assert answers(evidence)["sev-snp"] == "sev-snp-not-enabled"


def test_a_condition_that_is_unknown_leaves_the_cause_open() -> None:
    evidence = in_order()
    for registers in evidence["sev"]["registers"].values():
        registers["HWCR"] = {"error": "EIO"}
    found = levels(evidence)["sev"]
    assert (found["status"], found["cause"]) == ("off", None)
    assert "HWCR.SMMLOCK is not known: EIO" in found["because"]
    assert found["because"][0] == "kvm_amd.sev = N"


def test_without_kvms_answer_and_a_failure_a_level_is_unknown() -> None:
    evidence = in_order()
    for name in ("sev", "sev_es", "sev_snp"):
        evidence["modules"]["kvm_amd"]["parameters"][name] = {"error": "EACCES"}
    assert {level["status"] for level in levels(evidence).values()} == {"unknown"}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("SEV supported: 410 ASIDs",), ("available", "off", "off")),
        (("SEV supported: 410 ASIDs", "SEV-ES supported: 99 ASIDs"), ("available", "available", "off")),
        (
            ("kvm_amd: SEV enabled (ASIDs 100 - 509)", "kvm_amd: SEV-ES disabled (ASIDs 0 - 0)"),
            ("available", "off", "off"),
        ),
        (
            ("kvm_amd: SEV disabled (ASIDs 1 - 509)", "kvm_amd: SEV enabled (ASIDs 1 - 509)"),
            ("available", "off", "off"),
        ),
        (("kvm_amd: SEV unusable (ASIDs 100 - 99)",), ("off", "off", "off")),
        ((), ("unknown", "unknown", "unknown")),
    ],
)
def test_the_log_of_kvm_amd_answers_where_nothing_else_does(lines: tuple[str, ...], expected: tuple[str, ...]) -> None:
    evidence = in_order()
    evidence["modules"] = None
    evidence["log"] = log(*lines)
    evidence["command_line"] = {"error": "EACCES"}
    assert tuple(level["status"] for level in levels(evidence).values()) == expected


@pytest.mark.parametrize(
    ("words", "is_off"),
    [
        (["iommu=pt"], True),
        (["iommu=pt", "iommu=nopt"], False),
        (["iommu=nopt", "iommu=force,pt"], True),
        (["iommu.passthrough=1"], True),
        (["iommu.passthrough=1", "iommu.passthrough=0"], False),
        (["amd_iommu=off"], True),
        (["amd_iommu=on", "iommu=nopt"], False),
    ],
)
def test_the_last_parameter_of_the_iommu_counts(words: list[str], is_off: bool) -> None:
    evidence = in_order()
    evidence["command_line"] = words
    for level in ("sev", "sev-es"):
        set_answer(evidence, level, True)
    assert (answers(evidence)["sev-snp"] == "sev-snp-iommu-off") == is_off


def test_groups_that_all_bypass_the_iommu_show_passthrough() -> None:
    evidence = broken()
    set_answer(evidence, "sev-snp", False)
    evidence["sev"]["iommu"]["domains"] = {"identity": 40}
    assert answers(evidence)["sev-snp"] == "sev-snp-iommu-off"
    evidence["sev"]["iommu"]["domains"]["DMA-FQ"] = 1
    assert answers(evidence)["sev-snp"] == "sev-snp-loaded-off"


def test_the_capacity_of_the_cgroup_answers_where_nothing_else_does() -> None:
    evidence = in_order()
    evidence["modules"] = None
    evidence["sev"]["misc_capacity"] = "sev 410\nsev_es 0"
    assert tuple(level["status"] for level in levels(evidence).values()) == ("available", "unknown", "unknown")
    assert levels(evidence)["sev"]["because"] == ["misc.capacity: sev 410"]


def test_a_segmented_rmp_has_no_end() -> None:
    evidence = broken()
    set_answer(evidence, "sev-snp", False)
    for registers in evidence["sev"]["registers"].values():
        registers.update(RMP_CFG="0x2401", RMP_END="0x0")
    assert answers(evidence)["sev-snp"] == "sev-snp-loaded-off"


def test_evidence_without_sev_has_no_part_about_it() -> None:
    evidence = in_order()
    del evidence["sev"]
    assert "sev" not in judge(evidence)  # type: ignore[arg-type]


@pytest.mark.parametrize("level", LEVELS)
def test_a_required_level_decides_the_verdict(level: str) -> None:
    report: Any = judge(broken(), parse_list(level))  # type: ignore[arg-type]
    assert (report["verdict"]["status"], report["requirements"][0]["status"]) == ("confirmed", "met")
    report = judge(broken("sev-mem-encrypt-clear"), parse_list(level))  # type: ignore[arg-type]
    assert (report["verdict"]["status"], report["verdict"]["reason"]) == ("failed", "requirement-not-met")
    assert "sev-mem-encrypt-clear" in report["verdict"]["summary"]
    assert "SMEE" in report["verdict"]["hint"]


def test_a_level_that_is_off_or_unknown_changes_no_verdict_unless_required() -> None:
    evidence = broken("sev-not-in-cpu")
    assert judge(evidence)["verdict"]["status"] == "confirmed"  # type: ignore[arg-type]
    del evidence["sev"]
    evidence["modules"]["kvm_amd"]["parameters"].pop("sev_es")
    report: Any = judge(evidence, parse_list("sev-es"))  # type: ignore[arg-type]
    assert report["requirements"][0]["status"] == "not-met"  # CPUID shows no SEV, also without --sev
    for leaves in evidence["cpus"]["cpuid"].values():
        leaves["0x8000001f"] = {"error": "EIO"}
    report = judge(evidence, parse_list("sev-es"))  # type: ignore[arg-type]
    assert (report["requirements"][0]["status"], report["verdict"]["reason"]) == ("unknown", "requirement-unknown")
