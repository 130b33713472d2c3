"""The chain of SEV's conditions: each broken alone and in pairs, KVM's own answer, and what is unknown."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from kvmprobe.formats import FORMATS
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


# What an earlier kvm_amd, another PSP or kvmprobe's own deadline left in the evidence decides nothing.


def test_a_kvm_amd_that_is_gone_offers_nothing() -> None:
    evidence = in_order()
    evidence["log"] = log(
        *(line["text"] for line in evidence["log"]["lines"]), "kvm_amd: SEV enabled (ASIDs 100 - 509)"
    )
    evidence["ioctls"]["KVM_CHECK_EXTENSION"] = {}
    del evidence["modules"]["kvm_amd"]
    assert answers(evidence) == dict.fromkeys(LEVELS, "sev-kvm-amd-not-loaded")


def test_a_built_in_kvm_amd_that_registered_no_device_offers_nothing() -> None:
    evidence = broken()
    evidence["ioctls"]["KVM_CHECK_EXTENSION"] = {}
    evidence["modules"]["kvm_amd"].update(state="builtin", refcount=None)
    evidence["device"].update(registered=False, opened={"error": "ENOENT"})
    assert "available" not in answers(evidence).values()
    assert levels(evidence)["sev"]["hint"].startswith("kvm_amd has not started")
    assert "kvmprobe.sev=true" not in FORMATS["nfd"].render(judge(evidence))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "ccp 0000:22:00.1: psp: unable to access the device: you might be running a broken BIOS.",
        "ccp 0000:42:00.1: sev command 0x4 timed out, disabling PSP",
    ],
)
def test_an_answer_of_the_psp_beats_what_was_logged_before(text: str) -> None:
    evidence = broken()
    evidence["log"] = log(text, *(line["text"] for line in evidence["log"]["lines"]))
    assert answers(evidence) == dict.fromkeys(LEVELS, "available")


def test_kvmprobes_own_deadline_is_no_dead_psp() -> None:
    evidence = broken()
    evidence["sev"]["device"].update(platform={"error": "ETIMEDOUT"}, snp_platform=None)
    assert answers(evidence) == dict.fromkeys(LEVELS, "available")


def in_a_vm(evidence: Evidence) -> None:
    for leaves in evidence["cpus"]["cpuid"].values():
        leaves["0x1"] = ["0xa00f11", "0x0", "0x80000000", "0x0"]


@pytest.mark.parametrize("name", ["sev-mem-encrypt-clear", "sev-smm-not-locked", "sev-no-asids", "sev-es-no-asids"])
def test_a_vm_is_not_sent_into_the_setup_of_its_firmware(name: str) -> None:
    evidence = broken(name)
    in_a_vm(evidence)
    hint = levels(evidence)["sev-es"]["hint"]
    assert "firmware-setup" not in hint
    assert "Use bare metal" in hint


@pytest.mark.parametrize("name", ["sev-parameter-off", "sev-npt-off", "sev-es-lbrv-off", "sev-es-mmio-caching-off"])
def test_a_built_in_kvm_amd_is_not_loaded_again(name: str) -> None:
    evidence = broken(name)
    evidence["modules"]["kvm_amd"]["state"] = "builtin"
    hint = levels(evidence)["sev-es"]["hint"]
    assert "modprobe" not in hint
    assert "reboot" in hint


def test_loading_that_was_refused_is_not_advised_again() -> None:
    evidence = broken("sev-kvm-amd-not-loaded")
    output = "could not insert 'kvm_amd': Operation not permitted"
    evidence["loads"].append({"module": "kvm_amd", "status": 1, "output": output, "unloaded": None})
    level = levels(evidence)["sev"]
    assert "modprobe" not in level["hint"]
    assert f"modprobe: {output}" in level["because"]


def test_what_was_done_is_not_advised_where_nothing_is_known() -> None:
    evidence = in_order()
    evidence["ioctls"]["KVM_CHECK_EXTENSION"] = {}
    for name in ("sev", "sev_es", "sev_snp"):
        evidence["modules"]["kvm_amd"]["parameters"][name] = {"error": "EIO"}
    evidence["log"], evidence["sev"]["misc_capacity"] = log(), None
    for registers in evidence["sev"]["registers"].values():
        registers.update({name: {"error": "EIO"} for name in registers})
    level = levels(evidence)["sev"]
    assert level["status"] == "unknown"
    assert "Run `kvmprobe check --sev`" not in level["hint"]
    evidence["host"]["euid"] = 1000
    assert "Run `kvmprobe check --sev` as root" in levels(evidence)["sev"]["hint"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["kvm_amd.sev=0", "kvm_amd.sev=1"], "available"),
        (["kvm_amd.sev=1", "kvm_amd.sev=0"], "sev-parameter-off"),
        (["iommu=soft"], "available"),
        (["iommu=pt", "iommu=force"], "sev-snp-iommu-off"),
        (["iommu=pt", "iommu=nopt"], "available"),
        (["iommu=off", "iommu.passthrough=0"], "sev-snp-iommu-off"),
    ],
)
def test_the_last_setting_of_a_parameter_counts(words: list[str], expected: str) -> None:
    evidence = in_order()
    for level in LEVELS:
        set_answer(evidence, level, expected == "available")
    evidence["command_line"] += words
    evidence["log"] = log(*(line["text"] for line in evidence["log"]["lines"] if "AMD-Vi" not in line["text"]))
    level = "sev" if "parameter" in expected else "sev-snp"
    if expected != "available":
        evidence["ioctls"]["KVM_CHECK_EXTENSION"] = {}
    assert answers(evidence)[level] == expected


def test_folders_that_could_not_be_read_show_no_iommu_and_no_lack_of_one() -> None:
    evidence = in_order()
    for level in LEVELS:
        set_answer(evidence, level, False)
    evidence["ioctls"]["KVM_CHECK_EXTENSION"] = {}
    evidence["log"] = log(*(line["text"] for line in evidence["log"]["lines"] if "AMD-Vi" not in line["text"]))
    evidence["sev"]["iommu"] = {"features": None, "domains": {}}
    assert answers(evidence)["sev-snp"] != "sev-snp-iommu-off"
