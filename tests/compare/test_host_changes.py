"""Changes of the host around KVM, and of the answers to --require."""

from __future__ import annotations

from typing import Any

import pytest

from kvmprobe.compare import compare
from kvmprobe.compare.difference import BETTER, CHANGED, NOT_COMPARABLE, SAME, WORSE, Difference
from kvmprobe.judge import judge
from kvmprobe.judge.requirements.demands import parse_list
from tests.helpers.context_variants import server
from tests.helpers.run_kvmprobe import kvmprobe

SPECTRE = "context.vulnerabilities.retbleed"


@pytest.mark.parametrize(
    ("path", "old", "new", "subject", "rating"),
    [
        (SPECTRE, "Mitigation: IBPB", "Vulnerable", "vulnerability retbleed", WORSE),
        (SPECTRE, "Not affected", "Vulnerable: no microcode", "vulnerability retbleed", WORSE),
        (SPECTRE, "Vulnerable", "Mitigation: IBPB", "vulnerability retbleed", BETTER),
        (SPECTRE, "Mitigation: IBPB", "Mitigation: thunk; SMT vulnerable", "vulnerability retbleed", CHANGED),
        (SPECTRE, "Unknown: No mitigations", "Vulnerable", "vulnerability retbleed", NOT_COMPARABLE),
        ("context.vulnerabilities", {}, {"new": "Vulnerable"}, "vulnerability new", NOT_COMPARABLE),
        ("context.smt.active", "1", "0", "SMT active", CHANGED),
        ("context.smt.active", "1", {"error": "EACCES"}, "SMT active", NOT_COMPARABLE),
        ("context.clock.current", "tsc", "hpet", "clock source", CHANGED),
        ("context.clock.available", "tsc hpet", "hpet", "clock source tsc", WORSE),
        ("context.clock.available", "hpet", "tsc hpet", "clock source tsc", BETTER),
        ("context.clock.available", "tsc hpet", "tsc acpi_pm", "clock source tsc", SAME),
        ("context.memory_kb", 65_536_000, 65_500_000, "memory", SAME),
        ("context.memory_kb", 65_536_000, 32_768_000, "memory", CHANGED),
        ("context.huge_pages", {}, {"2048kB": {"total": 1, "free": 0}}, "huge pages of 2048kB", NOT_COMPARABLE),
        ("context.transparent_huge_pages", "[always] never", "always [never]", "transparent huge pages", CHANGED),
        ("context.iommu.groups", 30, 0, "IOMMU", WORSE),
        ("context.iommu.groups", 0, 30, "IOMMU", BETTER),
        ("context.iommu.groups", 30, None, "IOMMU", NOT_COMPARABLE),
        ("context.iommu.types", {"DMA-FQ": 30}, {"identity": 30}, "IOMMU group types", CHANGED),
        ("context.devices.tun.type", "char", None, "/dev/net/tun", WORSE),
        ("context.cgroups.unified", "cpu io memory", "cpu io", "cgroup controllers", WORSE),
        ("context.cgroups.unified", "cpu io", "cpu io memory", "cgroup controllers", BETTER),
    ],
)
def test_a_change_of_the_host_is_rated(path: str, old: Any, new: Any, subject: str, rating: str) -> None:
    reports = [judge(server((path, value))) for value in (old, new)]
    found = {one.subject: one.rating for one in compare(*reports) if one.area == "host"}
    assert found[subject] == rating
    if rating != NOT_COMPARABLE or "vulnerabilities" not in path:
        assert {name for name, value in found.items() if value != SAME} <= {subject}


V1 = ["cpuset", "cpu", "cpuacct", "blkio", "memory", "devices", "freezer", "net_cls", "pids"]
V2 = "cpuset cpu io memory hugetlb pids rdma misc"


@pytest.mark.parametrize(
    ("old", "new", "rating", "note"),
    [
        ((None, V1), (V2, []), CHANGED, ""),
        ((V2, []), (None, V1), CHANGED, ""),
        ((None, V1), ("cpuset cpu memory pids", []), WORSE, "lost of what libvirt uses: blkio"),
        ((V2, []), (None, ["cpuset", "cpu", "memory"]), WORSE, "lost of what libvirt uses: blkio, cpuacct"),
        ((None, ["cpuset", "cpu", "memory"]), (V2, []), BETTER, ""),
        ((None, V1), ({"error": "EACCES"}, []), NOT_COMPARABLE, ""),
        ((V2, []), (None, None), NOT_COMPARABLE, ""),
        ((V2, V1), (V2, []), SAME, ""),
        ((None, V1), ("", V1), SAME, ""),
        ((None, V1), (None, V1[:-1]), WORSE, ""),
        ((V2, []), ("", []), WORSE, ""),
    ],
)
def test_cgroups_of_two_versions_are_compared_by_what_libvirt_uses(old: Any, new: Any, rating: str, note: str) -> None:
    found = cgroup_difference(old, new)
    assert (found.rating, found.note) == (rating, note)


def cgroup_difference(*cgroups: tuple[Any, Any]) -> Difference:
    """The difference between hosts with these controllers: of v2 as the kernel shows them, of v1 as a list."""
    reports = [
        judge(server(("context.cgroups", {"unified": unified, "mounted": mounted}))) for unified, mounted in cgroups
    ]
    (found,) = [one for one in compare(*reports) if one.subject == "cgroup controllers"]
    return found


def test_the_version_of_cgroups_is_shown_where_it_changed() -> None:
    found = cgroup_difference((None, ["cpu", "blkio"]), ("cpu io", []))
    assert (found.was, found.now) == ("v1: blkio, cpu", "v2: cpu, io")


def test_reports_of_older_versions_have_nothing_to_compare() -> None:
    old = server()
    del old["context"]
    assert not [one for one in compare(judge(old), judge(server())) if one.area == "host"]


@pytest.mark.parametrize(
    ("old", "new", "rating"),
    [(30, 0, WORSE), (0, 30, BETTER), (30, None, WORSE), (0, None, NOT_COMPARABLE), (None, 0, WORSE), (30, 30, SAME)],
)
def test_a_requirement_that_is_no_longer_met_is_worse(old: Any, new: Any, rating: str) -> None:
    reports = [judge(server(("context.iommu.groups", groups)), parse_list("iommu")) for groups in (old, new)]
    assert [one.rating for one in compare(*reports) if one.area == "requirements"] == [rating]


def test_the_command_asks_both_reports_the_same(tmp_path: Any) -> None:
    import json

    files = [tmp_path / name for name in ("old.json", "new.json")]
    for file, groups in zip(files, (30, 0)):
        report = judge(server(("context.iommu.groups", groups)), parse_list("cpus>=64"))
        file.write_text(json.dumps(report))
    done = kvmprobe("compare", *files, "--require", "iommu", "--json", "-v")
    assert done.returncode == 1
    found = [one for one in json.loads(done.stdout)["pairs"][0]["differences"] if one["area"] == "requirements"]
    assert [(one["subject"], one["was"], one["is"]) for one in found] == [("iommu", "met", "not-met")]
    assert not [one for one in found if one["subject"] == "cpus>=64"]
