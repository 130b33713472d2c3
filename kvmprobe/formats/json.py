"""The whole report as JSON, for tools and for `kvmprobe judge`."""

from __future__ import annotations

import json

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.features import features_of

if TYPE_CHECKING:
    from kvmprobe.model.judgement import Report


def render(report: Report) -> str:
    """The report with what kvm_amd made of each feature, in ASCII, which every locale can write."""
    whole = {**report, "features": features_of(Facts(report["evidence"]))}
    whole["evidence"] = whole.pop("evidence")  # last: it is long
    return json.dumps(whole, indent=1) + "\n"
