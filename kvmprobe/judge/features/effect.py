"""Whether a feature is in effect, and the first step that refused it, in the kernel's own order.

A value of a parameter counts only where svm_hardware_setup() ran to its end: it switches off what it does not use. An
answer that is missing is unknown, never no.
"""

from __future__ import annotations

from collections.abc import Mapping

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.features import feature_evidence as evidence
from kvmprobe.judge.features.feature import place_of
from kvmprobe.judge.features.feature_rules import avic_is_forced, avic_is_hidden
from kvmprobe.judge.features.settings import all_are_recorded, is_on, parameter_of, shown
from kvmprobe.model.cpu_lists import cpu_names, format_cpulist, parse_cpulist
from kvmprobe.model.values import error_of

if TYPE_CHECKING:
    from kvmprobe.judge.features.feature import Feature
    from kvmprobe.model.judgement import FeatureReport

    No = tuple[str, str]  # a step of FeatureReport.first_no, and why in one sentence


def judge_feature(feature: Feature, facts: Facts, rows: Mapping[str, FeatureReport]) -> FeatureReport:
    """The row of one feature. `rows`: those of the features before it, by name."""
    has = evidence.by_cpu(feature, facts)
    lacking = [cpu for cpu, value in has.items() if value is False]
    on_cpu = evidence.every(has.values())
    row: FeatureReport = {
        "name": feature.name,
        "cpu": on_cpu,
        "lacking": format_cpulist(lacking) or None,
        "allowed": evidence.is_allowed(feature, facts, on_cpu),
        "kernel": evidence.kernel_knows(feature, facts),
        "parameter": feature.parameter,
        "value": parameter_of(facts, feature.parameter) if feature.parameter else None,
        "offered": evidence.is_offered(feature, facts),
        "in_effect": None,
        "first_no": None,
        "why": None,
    }
    no = _first_no(feature, facts, row, rows)
    if no:
        row["in_effect"], (row["first_no"], row["why"]) = False, no
    elif doubt := feature.doubt(facts):
        row["why"] = doubt
    elif _is_used(feature, facts, row, rows):
        row["in_effect"] = True
    else:
        row["why"] = _what_is_unknown(feature, facts, row, rows)
    return row


def _first_no(feature: Feature, facts: Facts, row: FeatureReport, rows: Mapping[str, FeatureReport]) -> No | None:
    """The first step that refused the feature; None where none is known to have done so."""
    forced = feature.bit == "avic" and avic_is_forced(facts)
    if feature.bit == "avic" and row["cpu"] is False and not forced and avic_is_hidden(facts):
        return "firmware", "the firmware hides AVIC: CPUID shows x2AVIC without AVIC"
    if row["cpu"] is False and not forced:
        return "cpu", _lacks(feature, facts, row)
    if evidence.svm_is_allowed(facts) is False:
        disabled = [cpu for cpu, value in facts.svmdis().items() if value]
        return "firmware", f"the firmware disabled SVM: VM_CR.SVMDIS is 1 on {cpu_names(disabled)}"
    has_set_up = evidence.has_set_up(facts)
    if has_set_up is False:
        why = "kvm_amd is built in and did not start" if facts.has_kvm_amd else "kvm_amd is not loaded"
        return "not-loaded", why
    if row["kernel"] is False:
        return "kernel", _unknown_to_kernel(feature, facts)
    for name in feature.needs:
        if rows[name]["in_effect"] is False:
            return "needs", f"it needs {name}: {rows[name]['why']}"
    rule = feature.rule(facts)
    if rule:
        return "rule", rule
    if has_set_up and is_on(row["value"]) is False:
        return "parameter", f"kvm_amd.{feature.parameter} is {shown(row['value'])}"
    if has_set_up and feature.capability and row["offered"] is False:
        return "kvm", f"{feature.capability} is 0"
    return None


def _lacks(feature: Feature, facts: Facts, row: FeatureReport) -> str:
    where = f"({place_of(feature)} is 0)"
    if row["lacking"] != format_cpulist(facts.identified):
        return f"it is missing on {cpu_names(parse_cpulist(row['lacking']))} {where}"
    if evidence.in_a_vm(facts):
        return f"the hypervisor outside does not offer it, or the CPU does not have it {where}"
    return f"the CPU does not have it {where}"


def _unknown_to_kernel(feature: Feature, facts: Facts) -> str:
    if feature.parameter and parameter_of(facts, feature.parameter) is None and not feature.without_parameter:
        return f"this kernel's kvm_amd has no parameter {feature.parameter}"
    return f"the kernel does not use it: /proc/cpuinfo has no flag {feature.flag}, although CPUID shows it"


def _is_used(feature: Feature, facts: Facts, row: FeatureReport, rows: Mapping[str, FeatureReport]) -> bool:
    """Whether the evidence shows that kvm_amd uses the feature, where no step refused it."""
    if not evidence.has_set_up(facts):
        return False
    if feature.offered_if_used and row["offered"]:
        return True
    needs = all(rows[name]["in_effect"] for name in feature.needs)
    if feature.parameter and row["value"] is not None:
        # npt was no boolean as long as it kept its value where the CPU has no nested paging (5.10).
        is_written_back = feature.written_back or (feature.name == "npt" and row["value"] == "Y")
        return bool(is_on(row["value"])) and (is_written_back or (bool(row["cpu"]) and needs))
    if feature.parameter and not all_are_recorded(facts):
        return False
    return bool(row["cpu"]) and needs and bool(evidence.every(evidence.flag_by_cpu(feature, facts).values()))


def _what_is_unknown(feature: Feature, facts: Facts, row: FeatureReport, rows: Mapping[str, FeatureReport]) -> str:
    if evidence.has_set_up(facts) is None:
        return "whether kvm_amd started is unknown"
    error = error_of(row["value"])
    if error:
        return f"kvm_amd.{feature.parameter} could not be read: {shown(error)}"
    for name in feature.needs:
        if rows[name]["in_effect"] is None:
            return f"it needs {name}: {rows[name]['why']}"
    if feature.parameter and row["value"] is None and not all_are_recorded(facts):
        return f"the evidence does not have kvm_amd.{feature.parameter}"
    if row["value"] is not None and is_on(row["value"]) is None:
        return f"kvm_amd.{feature.parameter} is {shown(row['value'])}"
    if row["cpu"] is None:
        return "CPUID could not be read"
    return "the evidence does not show whether the kernel uses it"
