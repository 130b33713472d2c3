"""SEV in each format, in a comparison and in a summary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.compare import compare
from kvmprobe.formats import render
from kvmprobe.judge import judge
from kvmprobe.judge.sev import SEV_CAUSES
from tests.helpers import strict_prometheus
from tests.helpers.broken_sev import BROKEN, set_answer
from tests.helpers.run_kvmprobe import kvmprobe
from tests.helpers.sev_hosts import in_order


def report_with(*names: str, sev: bool = True, sev_es: bool = True, sev_snp: bool = True) -> Any:
    """The report of a host with these conditions broken; KVM offers the levels that are True."""
    evidence = in_order()
    for level, offered in (("sev", sev), ("sev-es", sev_es), ("sev-snp", sev_snp)):
        set_answer(evidence, level, offered)
    for name in names:
        BROKEN[name](evidence)
    return judge(evidence)  # type: ignore[arg-type]


GOOD = report_with()
IOMMU = report_with("sev-snp-iommu-off", sev_snp=False)
NO_SNP = report_with("sev-snp-not-in-cpu", sev_snp=False)


def test_text_has_a_line_for_each_level_and_what_to_do() -> None:
    text = render(IOMMU, "text")
    assert "SEV       available KVM can run SEV guests: ASIDs 100 to 1006\n" in text
    assert "SEV-SNP   off       the IOMMU is off or in passthrough mode (sev-snp-iommu-off)\n" in text
    assert "What to do for SEV-SNP:\n  1. Reboot into" in text
    assert "Its conditions" not in text
    verbose = render(IOMMU, "text", 1)
    assert "[ FAIL  ] the IOMMU is off or in passthrough mode (sev-snp-iommu-off)\n" in verbose
    assert verbose.count("[ PASS  ] CPUID shows SEV") == 3
    for width in (80, 132):
        assert max(map(len, render(IOMMU, "text", 1, False, width).splitlines())) <= width


def test_what_the_cpu_does_not_have_is_no_task() -> None:
    rome = json.loads(json.dumps(NO_SNP["evidence"]))
    for leaves in rome["cpus"]["cpuid"].values():
        leaves["0x1"][0] = "0x830f10"  # family 0x17
    assert "What to do for" not in render(judge(rome), "text")
    assert "What to do for SEV-SNP:" in render(judge(rome), "text", 1)
    # A later family may have it: some firmware hides it while SNP is off in its setup.
    assert "What to do for SEV-SNP:" in render(NO_SNP, "text")
    assert "Memory encryption of guests" not in render(GOOD, "text", -1)


def test_metrics_have_status_and_cause() -> None:
    found = {
        tuple(value for _, value in sorted(labels))
        for (name, labels) in strict_prometheus.parse(render(IOMMU, "prometheus"))
        if name == "kvmprobe_sev_info"
    }
    assert found == {
        ("", "sev", "available"),
        ("", "sev-es", "available"),
        ("sev-snp-iommu-off", "sev-snp", "off"),
    }


def test_features_are_those_of_the_judgement() -> None:
    lines = render(report_with("sev-init-failed"), "nfd").splitlines()
    prefix = "feature.node.kubernetes.io/kvmprobe"
    # kvm_amd's parameters are Y, and no guest could start.
    assert {f"{prefix}.{name}=false" for name in ("sev", "sev-es", "sev-snp")} <= set(lines)
    assert f"{prefix}.sev-snp.cause=sev-init-failed" in lines
    assert f"{prefix}.sev-snp=true" in render(GOOD, "nfd").splitlines()


def test_causes_are_valid_values_of_labels() -> None:
    assert all(len(name) < 64 and name.startswith("sev") for name in SEV_CAUSES)


@pytest.mark.parametrize(
    ("old", "new", "rating"),
    [
        (GOOD, IOMMU, "worse"),
        (IOMMU, GOOD, "better"),
        (IOMMU, NO_SNP, "changed"),
        (GOOD, GOOD, "same"),
        (IOMMU, report_with("sev-snp-iommu-off", "sev-snp-no-rmp", sev_snp=False), "changed"),
    ],
)
def test_a_level_that_is_no_longer_available_is_worse(old: Any, new: Any, rating: str) -> None:
    found = {one.subject: one.rating for one in compare(old, new) if one.area == "sev"}
    assert found == {"sev": "same", "sev-es": "same", "sev-snp": rating}


def test_reports_without_sev_are_not_compared_in_it() -> None:
    evidence = in_order()
    del evidence["sev"]
    assert not [one for one in compare(judge(evidence), GOOD) if one.area == "sev"]  # type: ignore[arg-type]


def test_a_summary_counts_the_answers(tmp_path: Path) -> None:
    for number, report in enumerate((GOOD, IOMMU, IOMMU)):
        report["evidence"]["host"]["name"] = f"node{number}"
        (tmp_path / f"{number}.json").write_text(json.dumps(report))
    run = kvmprobe("summary", "--json", tmp_path)
    counts = json.loads(run.stdout)["counts"]["sev"]
    both = "sev available, sev-es available, sev-snp"
    assert counts == [
        {"value": f"{both} off (sev-snp-iommu-off)", "hosts": 2},
        {"value": f"{both} available", "hosts": 1},
    ]
    assert "SEV\n" in kvmprobe("summary", tmp_path).stdout
    assert "sev-snp off (sev-snp-iommu-off)" in render(IOMMU, "html")


def test_a_stored_answer_that_this_version_does_not_know_is_refused(tmp_path: Path) -> None:
    wrong = json.loads(json.dumps(IOMMU))
    wrong["sev"]["levels"][0]["cause"] = "sev-<script>"
    (tmp_path / "a.json").write_text(json.dumps(wrong))
    page = kvmprobe("summary", "--format", "html", tmp_path).stdout
    assert "<script>" not in page.partition("sev available")[2][:200]
    assert "sev-\\u003cscript" not in page
