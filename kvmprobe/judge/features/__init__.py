"""What kvm_amd made of each feature of SVM, and why not: one row for each feature, from evidence alone."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.features.effect import judge_feature
from kvmprobe.judge.features.feature_table import FEATURES

if TYPE_CHECKING:
    from kvmprobe.judge.facts import Facts
    from kvmprobe.model.judgement import FeatureReport

_VENDORS = ("AuthenticAMD", "HygonGenuine", None)


def features_of(facts: Facts) -> list[FeatureReport]:
    """A row for each feature, in kvm_amd's own order; none where no CPU is AMD's or Hygon's, or another backend answers
    behind /dev/kvm: there kvm_amd decides nothing."""
    vendors = facts.vendors().values()
    if facts.kvm_without_svm() or not any(vendor in _VENDORS for vendor in vendors):
        return []
    rows: dict[str, FeatureReport] = {}
    for feature in FEATURES.values():
        rows[feature.name] = judge_feature(feature, facts, rows)
    return list(rows.values())
