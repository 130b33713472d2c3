"""--format nfd: every report gives a feature file that node-feature-discovery accepts, and that expires."""

from __future__ import annotations

import copy
import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmprobe.formats import nfd
from kvmprobe.formats import render as render_as
from kvmprobe.judge import judge
from kvmprobe.model.errors import DataProblem
from tests.helpers import nfd_rules as reader
from tests.helpers.recorded_evidence import RECORDED, recorded, recorded_name
from tests.helpers.run_kvmprobe import kvmprobe

PREFIX = "feature.node.kubernetes.io/kvmprobe."
GOOD = "matrix/bookworm/epyc"


def rendered(report: Any) -> bytes:
    return render_as(report, "nfd").encode()


def taken(report: Any) -> datetime.datetime:
    return datetime.datetime.strptime(report["evidence"]["taken_at"], "%Y-%m-%dT%H:%M:%S%z")


def read(report: Any) -> dict[str, str]:
    """The features at the time of the probe, without their prefix."""
    return short(reader.read(rendered(report), taken(report)).features)


def short(features: dict[str, str]) -> dict[str, str]:
    return {name.removeprefix(PREFIX): value for name, value in features.items()}


@pytest.mark.parametrize("path", RECORDED, ids=recorded_name)
def test_every_report_makes_valid_features(path: Path) -> None:
    report = json.loads(path.read_text())
    found = reader.read(rendered(report), taken(report))
    assert found.features
    assert found.labels.items() <= found.features.items()
    for name, value in found.features.items():
        reader.check_name(name)
        assert name.startswith(PREFIX)
        reader.check_value(value)  # also of features without a label, because a rule may make one
        assert value, f"{name} is empty: unknown is left out"
    features = short(found.features)
    verdict = report["verdict"]
    assert features["verdict"] == verdict["status"].replace(" ", "-")
    assert features["reason"] == verdict["reason"]
    assert features.get("ready") == {"confirmed": "true", "usable": "true", "failed": "false"}.get(verdict["status"])
    counts = [int(value) for name, value in features.items() if name.startswith("checks.")]
    assert sum(counts) == len(report["checks"])
    assert not {name for name in short(found.labels) if name.startswith(("checks.", "cpus."))}


@pytest.mark.parametrize("path", RECORDED, ids=recorded_name)
def test_features_expire_a_day_after_the_probe(path: Path) -> None:
    report = json.loads(path.read_text())
    end = taken(report) + datetime.timedelta(hours=26)
    last, late = (reader.read(rendered(report), now) for now in (end, end + datetime.timedelta(seconds=1)))
    assert last.expiry == {end.strftime("%Y-%m-%dT%H:%M:%SZ")}
    assert last.features
    assert not late.features
    assert not late.labels


def test_a_stored_report_expires_by_the_time_of_its_probe(tmp_path: Path) -> None:
    report = judge(recorded(GOOD))
    report["evidence"]["taken_at"] = "2001-02-28T23:30:00Z"
    (tmp_path / "old.json").write_text(json.dumps(report))
    done = kvmprobe("judge", "-q", "--also", f"nfd:{tmp_path / 'kvmprobe'}", tmp_path / "old.json")
    assert done.returncode == 0, done.stderr
    data = (tmp_path / "kvmprobe").read_bytes()
    assert data == rendered(report)
    assert (tmp_path / "kvmprobe").stat().st_mode & 0o777 == 0o644  # nfd-worker is not root
    assert reader.read(data, datetime.datetime.now(datetime.timezone.utc)).features == {}
    assert reader.read(data, datetime.datetime(2001, 3, 2, 1, 30, tzinfo=datetime.timezone.utc)).features


def test_no_feature_changes_from_run_to_run() -> None:
    """Each change would make every node write to the API server."""
    first, second = judge(recorded(GOOD)), judge(recorded(GOOD))
    second["evidence"].update({"taken_at": "2026-11-23T16:07:51Z", "duration_ms": 1234.5})
    second["evidence"]["log"]["lines"] = []
    for snapshot in second["evidence"]["snapshots"]:
        for registers in snapshot["cpus"].values():
            registers["VM_HSAVE_PA"] = "0x7000"
    assert read(first) == read(second)


def test_a_usable_host_is_ready() -> None:
    report = judge(recorded(GOOD))
    report["verdict"].update({"status": "usable", "reason": "guest-ran"})
    assert read(report).items() >= {"verdict": "usable", "reason": "guest-ran", "ready": "true"}.items()


def test_the_features_of_a_good_host() -> None:
    features = read(judge(recorded("matrix/trixie/epyc")))
    wanted = {
        "verdict": "confirmed",
        "reason": "svme-set-at-module-load",
        "ready": "true",
        "svm": "true",
        "nested": "true",
        "npt": "true",
        "sev": "false",
        "enable-virt-at-load": "true",
        "max-vcpus": "4096",
        "cpus.online": "2",
        "cpus.svme": "2",
        "cpus.svmdis": "0",
        "checks.pass": "16",
        "checks.fail": "0",
    }
    assert {name: features[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("matrix/bookworm/not-loaded", {"nested", "npt", "sev", "sev-es", "max-vcpus", "cpus.svme"}),
        ("matrix/bookworm/no-msr-device", {"cpus.svme", "cpus.svmdis"}),
        ("matrix/bookworm/ordinary-user", {"ready", "cpus.svme", "cpus.svmdis"}),
        ("matrix/bookworm/intel", {"ready", "nested", "npt"}),
        ("matrix/bullseye/epyc", {"sev-es", "sev-snp", "enable-virt-at-load"}),  # not in that kernel
    ],
)
def test_what_is_unknown_is_left_out(name: str, absent: set[str]) -> None:
    assert absent & set(read(judge(recorded(name)))) == set()


def test_the_cpu_decides_against_a_parameter() -> None:
    """Linux 5.10 keeps sev=1 on a CPU without SEV (CPUID 0x8000001F EAX bit 1)."""
    evidence = recorded(GOOD)
    evidence["modules"]["kvm_amd"]["parameters"].update(sev="1", sev_es="Y")
    assert read(judge(evidence)).items() >= {"sev": "false", "sev-es": "false"}.items()
    for leaves in evidence["cpus"]["cpuid"].values():
        leaves["0x8000001f"] = ["0xb", "0x0", "0x0", "0x0"]
    evidence["cpus"]["cpuid"]["1"]["0x80000000"][0] = evidence["cpus"]["cpuid"]["0"]["0x80000000"][0] = "0x8000001f"
    assert read(judge(evidence)).items() >= {"sev": "true", "sev-es": "true"}.items()
    for leaves in evidence["cpus"]["cpuid"].values():
        leaves["0x8000001f"] = {"error": "ENOENT"}
    assert read(judge(evidence)).items() >= {"sev": "true", "sev-es": "true"}.items()


@pytest.mark.parametrize("value", ["yes", "-1", "", "Y\nfeature.node.kubernetes.io/x=1", {"error": "EACCES"}])
def test_a_parameter_with_an_unknown_value_is_left_out(value: Any) -> None:
    evidence = recorded(GOOD)
    evidence["modules"]["kvm_amd"]["parameters"]["nested"] = value
    assert "nested" not in read(judge(evidence))


@pytest.mark.parametrize(
    "taken_at",
    [
        "",
        "now",
        "2026-11-22",
        "2026-11-22T16:07:51+00:00",
        "2026-13-22T16:07:51Z",
        "9999-12-31T23:00:00Z",
        "2026-11-22T16:07:51Z\n",
        "\u0662\u0660\u0662\u0666-11-22T16:07:51Z",
        "2026-11-22T16:07:51Z\n# +expiry-time=2099-01-01T00:00:00Z",
    ],
)
def test_without_a_time_there_are_no_features(taken_at: str, tmp_path: Path) -> None:
    """NFD would take a file without a valid time of expiry as one that never expires."""
    report = judge(recorded(GOOD))
    report["evidence"]["taken_at"] = taken_at
    with pytest.raises(DataProblem):
        rendered(report)
    (tmp_path / "report.json").write_text(json.dumps(report))
    done = kvmprobe("judge", "--format", "nfd", "-o", tmp_path / "kvmprobe", tmp_path / "report.json")
    assert done.returncode == 65
    assert "taken_at" in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert not (tmp_path / "kvmprobe").exists()


HOSTILE = st.one_of(
    st.text(),
    st.sampled_from(
        [
            "x\n# +expiry-time=2099-01-01T00:00:00Z",
            "+expiry-time=2099-01-01T00:00:00Z",
            "x\nfeature.node.kubernetes.io/kvmprobe.ready=true",
            "x\rvendor.example/x=1",
            "x\u2028\u0085\x0b# +no-feature",
            "x" * 100000,
            "\ud800",
        ]
    ),
)


@given(st.lists(HOSTILE, min_size=6, max_size=6))
def test_hostile_text_stays_in_comments(texts: list[str]) -> None:
    report = judge(copy.deepcopy(_GOOD_EVIDENCE))
    plain = read(report)
    evidence = report["evidence"]
    evidence["host"]["name"], evidence["kernel"]["release"], evidence["kernel"]["version"] = texts[:3]
    report["verdict"].update({"summary": texts[3], "hint": texts[4]})
    assert evidence["modules"]
    evidence["modules"]["kvm_amd"]["parameters"]["avic"] = texts[5]
    data = rendered(report)
    found = reader.read(data, taken(report))
    assert short(found.features).items() >= {k: v for k, v in plain.items() if k != "avic"}.items()
    assert set(short(found.features)) <= set(plain)
    assert len(found.expiry) == 1
    assert len(data) < 4096
    assert nfd.PREFIX == PREFIX


_GOOD_EVIDENCE = recorded(GOOD)
