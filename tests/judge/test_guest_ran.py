"""The verdict `usable`: no register could be read, and a guest shows that SVM works with kvm_amd as only backend."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kvmprobe.formats import FORMATS, nagios, nfd, prometheus, render, text
from kvmprobe.judge import judge
from kvmprobe.model.json_schema import first_error, report_schema
from kvmprobe.model.verdict_status import EXIT_STATUS
from tests.helpers.recorded_evidence import recorded

USER, NO_MSR = "matrix/bookworm/user-of-kvm", "matrix/trixie/no-msr-device"

Change = Callable[[Any], None]


def guest(cpu: int, **fields: Any) -> Change:
    return lambda evidence: evidence["guest"][cpu].update(fields)


def refused(call: str, error: str) -> Change:
    return guest(1, result="failed", detail=call, error=error)


def again(call: str, error: str) -> Change:
    """A second run on cpu1 that failed."""
    run = {"cpu": 1, "result": "failed", "detail": call, "error": error}
    return lambda evidence: evidence["guest"].append(run)


def modules(**more: Any) -> Change:
    return lambda evidence: evidence["modules"].update(more)


def module(**fields: Any) -> Change:
    return lambda evidence: evidence["modules"]["kvm_amd"].update(fields)


def no_guest(evidence: Any) -> None:
    evidence["guest"] = []


def no_module(evidence: Any) -> None:
    del evidence["modules"]["kvm_amd"]


def no_sysfs(evidence: Any) -> None:
    evidence["modules"] = None


def read(value: str, *cpus: str) -> Change:
    def change(evidence: Any) -> None:
        for snapshot in evidence["snapshots"]:
            for cpu in cpus:
                snapshot["cpus"][cpu]["EFER"] = value

    return change


def third_cpu(evidence: Any) -> None:
    """cpu2 is outside of this process's cpuset."""
    evidence["cpus"].update(online="0-2", online_at_end="0-2")
    for snapshot in evidence["snapshots"]:
        snapshot["cpus"]["2"] = snapshot["cpus"]["1"]
    evidence["guest"].append({"cpu": 2, "result": "skipped", "detail": "sched_setaffinity", "error": "EINVAL"})


OTHER = {"state": "live", "refcount": 0, "holders": [], "parameters": {}}
SKIPPED = {"result": "skipped", "detail": "sched_setaffinity", "error": "EINVAL"}

# name, recorded evidence, changes, reason, what the summary has
TABLE: tuple[tuple[str, str, tuple[Change, ...], str, str], ...] = (
    ("user of kvm", USER, (), "guest-ran", "on cpu0-1, and kvm_amd is KVM's only backend; EFER, VM_CR, VM_HSAVE_PA"),
    ("root without msr", NO_MSR, (), "guest-ran", "on cpu0-1"),
    ("kvm_amd is built in", USER, (module(state="builtin"),), "guest-ran", "on cpu0-1"),
    (
        "on one CPU only",
        USER,
        (guest(1, **SKIPPED),),
        "guest-ran",
        "on cpu0, and kvm_amd is KVM's only backend; not on cpu1",
    ),
    ("a third CPU", USER, (third_cpu,), "guest-ran", "not on cpu2: sched_setaffinity EINVAL"),
    ("refused on cpu1", USER, (refused("KVM_RUN", "EPERM"),), "guest-ran", "not on cpu1: failed: KVM_RUN EPERM"),
    ("SVME was 1 on cpu1", USER, (read("0x1d01", "1"),), "msr-unreadable", ""),
    ("SVME was 0 on cpu1", USER, (read("0xd01", "1"),), "svme-not-set", ""),
    ("on no CPU", USER, (guest(0, **SKIPPED), guest(1, **SKIPPED)), "msr-unreadable", ""),
    ("no guest", USER, (no_guest,), "msr-unreadable", ""),
    ("wrong on cpu1", USER, (guest(1, result="wrong"),), "msr-unreadable", ""),
    ("timeout on cpu1", USER, (guest(1, result="timeout"),), "msr-unreadable", ""),
    ("failed on cpu1", USER, (refused("KVM_RUN", "EIO"),), "msr-unreadable", ""),
    (
        "refused, then failed on cpu1",
        USER,
        (refused("KVM_RUN", "EPERM"), again("KVM_RUN", "EIO")),
        "msr-unreadable",
        "",
    ),
    ("another backend", USER, (modules(kvm_intel=OTHER),), "msr-unreadable", ""),
    ("kvm_amd is being loaded", USER, (module(state="coming"),), "msr-unreadable", ""),
    ("modules unknown", USER, (no_sysfs,), "msr-unreadable", ""),
)


@pytest.mark.parametrize(("name", "base", "changes", "reason", "summary"), TABLE, ids=[row[0] for row in TABLE])
def test_only_a_guest_on_kvm_amd_shows_it(
    name: str, base: str, changes: tuple[Change, ...], reason: str, summary: str
) -> None:
    evidence = recorded(base)
    for change in changes:
        change(evidence)
    verdict = judge(evidence)["verdict"]
    assert verdict["reason"] == reason, verdict
    assert summary in verdict["summary"]
    assert "confirmed" not in json.dumps(verdict).lower()


def test_without_kvm_amd_another_backend_answers() -> None:
    evidence = recorded(USER)
    no_module(evidence)
    assert judge(evidence)["verdict"]["status"] != "usable"


@pytest.mark.parametrize("base", [USER, NO_MSR])
def test_the_report_shows_what_was_not_read_and_what_root_adds(base: str) -> None:
    report = judge(recorded(base))
    schema = report_schema()
    assert first_error(report, schema, schema) is None
    assert EXIT_STATUS[report["verdict"]["status"]] == 0
    statuses = {check["id"]: check["status"] for check in report["checks"]}
    assert (statuses["svme"], statuses["guest"], statuses["release"]) == ("unknown", "pass", "unknown")
    assert "root's rights" in report["verdict"]["hint"]
    assert any("EFER" in line for line in report["verdict"]["because"])
    shown = text.render(report)
    assert shown.startswith("USABLE guest-ran: a guest ran to its end on cpu0-1")
    assert "EFER, VM_CR, VM_HSAVE_PA could not be read" in shown


def test_every_format_knows_it() -> None:
    report = judge(recorded(USER))
    for name in FORMATS:
        assert "guest-ran" in render(report, name) or name in ("ktap", "junit"), name
    assert nagios.exit_status(report) == 0
    assert 'kvmprobe_verdict{verdict="usable"} 1' in prometheus.render(report)
    assert "kvmprobe.ready=true" in nfd.render(report)
