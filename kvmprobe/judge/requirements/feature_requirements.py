"""Requirements about the features of SVM: each is met where kvm_amd uses the feature."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import FAIL, PASS, UNKNOWN
from kvmprobe.judge.features import features_of
from kvmprobe.judge.features.feature_evidence import in_a_vm
from kvmprobe.judge.features.feature_table import FEATURES
from kvmprobe.judge.features.remedy import PROBE_AGAIN, remedy
from kvmprobe.judge.requirements.requirement import MET, NOT_MET, Requirement, RequirementAnswer

if TYPE_CHECKING:
    from kvmprobe.judge.facts import Facts
    from kvmprobe.judge.features.feature import Feature
    from kvmprobe.model.judgement import FeatureReport

_NESTED_CHECK = "nested"  # of check_table.CHECKS: a guest in a guest ran, or did not


def _ask(feature: Feature, facts: Facts) -> RequirementAnswer:
    rows = {row["name"]: row for row in features_of(facts)}
    if not rows:
        return RequirementAnswer(NOT_MET, _why_none(facts), "Run it on a host where kvm_amd is KVM's backend.")
    row = rows[feature.name]
    if row["in_effect"]:
        return RequirementAnswer(MET, _shown(row))
    hint = remedy(feature, facts, rows)
    if row["in_effect"] is None:
        return RequirementAnswer(UNKNOWN, str(row["why"]), PROBE_AGAIN)
    on_metal = in_a_vm(facts) is False
    prefix = "the hardware cannot have it: " if row["first_no"] == "cpu" and on_metal else ""
    return RequirementAnswer(NOT_MET, f"{prefix}{row['why']}", hint)


def _why_none(facts: Facts) -> str:
    if facts.kvm_without_svm():
        return f"KVM {facts.answers_through()}, not through kvm_amd"
    return "no CPU is AMD's or Hygon's"


def _shown(row: FeatureReport) -> str:
    """What shows that the feature is in effect."""
    if row["parameter"] is None or row["value"] is None:
        return "kvm_amd uses it, and every CPU has it"
    return f"kvm_amd uses it: kvm_amd.{row['parameter']} is {row['value']} after loading"


def _ask_nested(feature: Feature, facts: Facts) -> RequirementAnswer:
    """As for any feature; where a guest was to run in a guest, whether it did is the answer."""
    if "nested" not in facts.evidence:
        return _ask(
            feature, facts
        )  # The check does not apply. To judge everything again would cost as much as judging.
    from kvmprobe.judge import examine  # which imports the requirements where they are asked

    found = next((one.result for one in examine(facts.evidence) if one.check.id == _NESTED_CHECK), None)
    if found and found.status in (PASS, FAIL, UNKNOWN):
        status = {PASS: MET, FAIL: NOT_MET}.get(found.status, UNKNOWN)
        return RequirementAnswer(status, found.message, None if status == MET else found.hint or PROBE_AGAIN)
    return _ask(feature, facts)


def _requirement(feature: Feature) -> Requirement:
    ask = _ask_nested if feature.name == "nested" else _ask
    description = f"kvm_amd uses this feature: {feature.about}".rstrip(".")
    return Requirement(feature.name, description, lambda facts: ask(feature, facts))


FEATURE_REQUIREMENTS = tuple(_requirement(feature) for feature in FEATURES.values())
