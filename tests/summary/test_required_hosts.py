"""Which hosts of a fleet meet what --require asks, and hosts whose surroundings are unusual."""

from __future__ import annotations

import json
from typing import Any

from kvmprobe.judge import judge
from kvmprobe.judge.requirements.demands import parse_list
from kvmprobe.model.json_schema import first_error
from tests.helpers.context_variants import server
from tests.helpers.fleet_reports import lines
from tests.helpers.run_kvmprobe import PROJECT, kvmprobe


def named(name: str, *changes: tuple[str, Any], require: str = "") -> Any:
    evidence = server(*changes)
    evidence["host"]["name"] = name
    return judge(evidence, parse_list(require) if require else ())


def summary(reports: list[Any], *arguments: str) -> tuple[int, Any]:
    done = kvmprobe("summary", "-", "--json", *arguments, input=lines(reports))
    data = json.loads(done.stdout)
    schema = json.loads((PROJECT / "kvmprobe/model/summary.schema.json").read_text())
    assert first_error(data, schema, schema) is None
    return done.returncode, data


NO_IOMMU, UNKNOWN_IOMMU = ("context.iommu.groups", 0), ("context.iommu.groups", None)
FLEET = [named("a"), named("b", NO_IOMMU), named("c", UNKNOWN_IOMMU), named("d")]


def test_the_hosts_are_listed_by_answer() -> None:
    status, data = summary(FLEET, "--require", "iommu,cpus>=2")
    assert status == 1
    assert data["requirements"] == [
        {"name": "iommu", "met": ["a", "d"], "not-met": ["b"], "unknown": ["c"]},
        {"name": "cpus>=2", "met": ["a", "b", "c", "d"], "not-met": [], "unknown": []},
    ]
    reasons = {one["value"]: one["hosts"] for one in data["counts"]["reason"]}
    assert reasons == {"svme-set-at-module-load": 2, "requirement-not-met": 1, "requirement-unknown": 1}
    assert data["reports"]["judged_again"] == 4


def test_the_text_counts_and_names_them() -> None:
    done = kvmprobe("summary", "-", "--require", "iommu", input=lines(FLEET))
    assert done.returncode == 1
    assert (
        "Requirement iommu: met by 2 of 4 hosts\n  met (2): a, d\n  not-met (1): b\n  unknown (1): c\n" in done.stdout
    )


def test_what_the_reports_asked_counts_unless_the_summary_asks() -> None:
    fleet = [named("a", require="cpus>=64"), named("b", require="cpus>=2"), named("c")]
    status, data = summary(fleet)
    assert status == 1
    assert [one["name"] for one in data["requirements"]] == ["cpus>=64", "cpus>=2"]
    assert summary(fleet, "--judge")[1]["requirements"] == data["requirements"]
    status, data = summary(fleet, "--require", "none")
    assert (status, data["requirements"]) == (0, [])


def test_the_page_has_the_answers() -> None:
    done = kvmprobe("summary", "-", "--format", "html", "--require", "iommu", input=lines(FLEET))
    assert '["iommu","not-met"]' in done.stdout


def test_a_host_with_unusual_surroundings_is_an_outlier() -> None:
    fleet = [named(f"node-{index}") for index in range(12)]
    fleet.append(named("unmitigated", ("context.vulnerabilities.retbleed", "Vulnerable")))
    fleet.append(named("without-iommu", NO_IOMMU))
    fleet.append(named("hpet", ("context.clock.current", "hpet")))
    _, data = summary(fleet)
    found = {group["hosts"][0]: group["unusual"][0]["what"] for group in data["outliers"]}
    assert found == {"unmitigated": "vulnerability.retbleed", "without-iommu": "iommu", "hpet": "clocksource"}
