"""--require: each requirement answered from evidence, and the verdict that follows."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from kvmprobe.formats.hint_steps import is_action, parts, sentences
from kvmprobe.judge import judge
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.requirements.demands import listing, parse, parse_list
from kvmprobe.judge.requirements.kernel_release import parse_limit, possible_versions
from kvmprobe.model.json_schema import first_error, report_schema
from kvmprobe.model.printable import clean
from kvmprobe.model.reasons import REASONS
from tests.helpers.context_variants import server
from tests.helpers.recorded_evidence import RECORDED, recorded, recorded_name

CONFIRMED = "matrix/trixie/epyc"  # 2 CPUs, Linux 6.12
ALL = [name for name, _ in listing()]
UNREAD = {"error": "EACCES"}
TUN = "context.devices.tun"
UNSTABLE = {"seconds": 1.0, "text": "tsc: Marking TSC unstable due to TSCs unsynchronized"}


def level_everywhere(level: str | None) -> list[tuple[str, Any]]:
    """The changes after which each CPU has this patch level."""
    return [(f"cpus.cpuinfo.{cpu}.microcode", level) for cpu in (0, 1)]


def required(evidence: Any, text: str) -> Any:
    """The report for evidence and the requirements in `text`, which follows the schema."""
    report = judge(evidence, parse_list(text))
    assert first_error(report, report_schema(), report_schema()) is None
    return report


def answer(evidence: Any, name: str) -> str:
    """The status of one requirement. Its message and hint are texts that can be printed."""
    found = parse(name).ask(Facts(evidence))
    for text in (found.message, found.hint or "Hint."):
        assert text == clean(text)
        assert text.count("`") % 2 == 0
    assert (found.hint is None) == (found.status == "met"), found.message
    return found.status


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("registers", "confirmed", "svme-set-at-module-load"),
        ("registers,cpus>=2,cpus<=2,cpus=2,kernel>=6.12", "confirmed", "svme-set-at-module-load"),
        ("cpus>=3", "failed", "requirement-not-met"),
        ("cpus>=2,cpus>=64,kernel<6.12", "failed", "requirement-not-met"),
        ("microcode>=0x0A201210", "inconclusive", "requirement-unknown"),
        ("microcode>=0x0A201210,iommu", "inconclusive", "requirement-unknown"),
        ("microcode>=0x0A201210,cpus>=64", "failed", "requirement-not-met"),
    ],
)
def test_the_verdict_stays_good_only_where_all_requirements_are_met(text: str, status: str, reason: str) -> None:
    report = required(recorded(CONFIRMED), text)
    verdict = report["verdict"]
    assert (verdict["status"], verdict["reason"]) == (status, reason)
    assert REASONS[reason].status == status
    assert [row["name"] for row in report["requirements"]] == text.split(",")
    decisive = {"failed": "not-met", "inconclusive": "unknown"}.get(status)
    for row in report["requirements"]:
        assert (row["status"] == decisive) == (row["name"] in verdict["summary"])
        assert row["status"] != decisive or row["hint"] in verdict["hint"]


@pytest.mark.parametrize("name", ["matrix/bookworm/no-svm", "matrix/trixie/held-second", "matrix/trixie/intel"])
def test_a_verdict_that_is_failed_or_not_applicable_stays_what_it_is(name: str) -> None:
    evidence = recorded(name)
    report = required(evidence, "cpus>=64,registers")
    assert report["verdict"] == judge(evidence)["verdict"]
    assert [row["status"] for row in report["requirements"]] == ["not-met", "not-met"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("cpus>=2", "kvm-not-permitted"), ("iommu", "kvm-not-permitted"), ("cpus>=3", "requirement-not-met")],
)
def test_an_inconclusive_verdict_fails_only_where_a_requirement_is_certainly_not_met(text: str, reason: str) -> None:
    assert required(recorded("matrix/trixie/ordinary-user"), text)["verdict"]["reason"] == reason


def test_a_usable_verdict_does_not_have_the_registers() -> None:
    evidence = recorded("matrix/trixie/user-of-kvm")
    assert judge(evidence)["verdict"]["status"] == "usable"
    assert required(evidence, "registers")["verdict"]["reason"] == "requirement-unknown"


def test_the_advice_for_several_requirements_names_each() -> None:
    evidence = server(("context.smt.active", "0"), ("context.devices.tun.type", None), ("context.iommu.groups", 0))
    rows = {row["name"]: row for row in required(evidence, "tun,smt,iommu,cpus>=3,cpus>=4")["requirements"]}
    hint = required(evidence, ",".join(rows))["verdict"]["hint"]
    for names in ("tun", "smt", "iommu", "cpus>=3, cpus>=4"):
        assert f"For {names}: {rows[names.split(',')[0]]['hint']}" in hint
    assert required(evidence, "cpus>=2,tun")["verdict"]["hint"] == rows["tun"]["hint"]


@pytest.mark.parametrize("path", RECORDED[::3], ids=recorded_name)
def test_a_name_before_an_advice_keeps_its_steps_and_commands(path: Any) -> None:
    evidence = recorded(recorded_name(path))
    for row in required(evidence, ",".join(ALL))["requirements"]:
        hint = row["hint"] or ""
        plain, named = sentences(hint), sentences(f"For {row['name']}: {hint}")
        assert [is_action(one) for one in named[1:]] == [is_action(one) for one in plain[1:]]
        for one, other in zip(plain, named):
            commands = [text for text, is_command in parts(one) if is_command]
            assert [text for text, is_command in parts(other) if is_command] == commands
        assert not hint or is_action(named[0]) == is_action(plain[0]), named[0]


def test_the_registers_do_not_depend_on_a_guest_in_a_guest() -> None:
    evidence = recorded("nested/bookworm-inner-loop")
    report = required(evidence, "registers")
    assert report["verdict"] == judge(evidence)["verdict"]
    assert report["verdict"]["reason"] == "nested-guest-failed"
    assert {row["status"] for row in report["requirements"]} == {"met"}
    evidence["ioctls"]["KVM_CREATE_VM"] = {"error": "EBUSY"}
    assert answer(evidence, "registers") == "not-met"


def test_the_registers_of_a_host_with_another_backend_need_kvm_amd_and_of_another_vendor_another_cpu() -> None:
    other_backend = recorded("hosts/kvm-pvm-without-svm")
    for evidence, hint in (
        (other_backend, "Run it on a host where kvm_amd is KVM's backend."),
        (recorded("matrix/trixie/intel"), "Run it on a host with a CPU of AMD or Hygon."),
    ):
        (row,) = required(evidence, "registers")["requirements"]
        assert (row["status"], row["hint"]) == ("not-met", hint)


@pytest.mark.parametrize("name", ["tun", "vhost-net", "vhost-vsock"])
def test_a_node_that_is_not_in_the_evidence_has_the_path_that_evidence_would_have(name: str) -> None:
    path = server()["context"]["devices"][name]["path"]
    found = parse(name.replace("-net", "")).ask(Facts(server(("context.devices", {}))))
    assert (found.status, found.message) == ("unknown", f"{path} is not in the evidence")


def test_a_report_without_requirements_has_no_such_key() -> None:
    assert "requirements" not in judge(recorded(CONFIRMED))


CASES = [
    ("smt", "met", []),
    ("smt", "not-met", [("context.smt.active", "0")]),
    ("smt", "unknown", [("context.smt.active", UNREAD)]),
    ("smt", "unknown", [("context.smt.active", "")]),
    ("smt-off", "not-met", []),
    ("smt-off", "met", [("context.smt.active", "0"), ("context.smt.control", "notsupported")]),
    ("smt-off", "unknown", [("context.smt.active", None)]),
    ("tsc-stable", "met", []),
    ("tsc-stable", "met", [("context.clock.current", "kvm-clock"), ("context.clock.available", "kvm-clock tsc")]),
    ("tsc-stable", "not-met", [("context.clock.current", "hpet"), ("context.clock.available", "hpet acpi_pm")]),
    ("tsc-stable", "not-met", [("context.clock.available", "tsc-early hpet")]),
    ("tsc-stable", "not-met", [("context.clock.current", "hpet"), ("log.lines", [UNSTABLE])]),
    ("tsc-stable", "met", [("log.lines", [UNSTABLE])]),  # of another boot: tsc is the clock source
    ("tsc-stable", "unknown", [("context.clock.current", "hpet"), ("log.error", "EPERM")]),
    ("tsc-stable", "not-met", [("cpus.cpuinfo.1.clock_flags", ["constant_tsc"])]),
    ("tsc-stable", "not-met", [("cpus.cpuinfo.0.clock_flags", ["nonstop_tsc"])]),
    ("tsc-stable", "unknown", [("cpus.cpuinfo.1.clock_flags", None)]),
    ("tsc-stable", "unknown", [("cpus.cpuinfo", UNREAD)]),
    ("tsc-stable", "unknown", [("context.clock.available", None)]),
    ("mitigated", "met", []),
    ("mitigated", "not-met", [("context.vulnerabilities.retbleed", "Vulnerable: Safe RET, no microcode")]),
    ("mitigated", "not-met", [("context.vulnerabilities.itlb_multihit", "KVM: Vulnerable")]),
    ("mitigated", "unknown", [("context.vulnerabilities.retbleed", "Unknown: No mitigations")]),
    ("mitigated", "unknown", [("context.vulnerabilities.retbleed", UNREAD)]),
    ("mitigated", "unknown", [("context.vulnerabilities", None)]),
    ("iommu", "met", []),
    ("iommu", "not-met", [("context.iommu.devices", [])]),
    ("iommu", "not-met", [("context.iommu.groups", 0), ("context.iommu.tables", [])]),
    ("iommu", "not-met", [("context.iommu.groups", 0), ("context.iommu.tables", None)]),
    ("iommu", "unknown", [("context.iommu.devices", None)]),
    ("iommu", "unknown", [("context.iommu.groups", None)]),
    ("cgroups", "met", []),
    ("cgroups", "not-met", [("context.cgroups.unified", "cpuset cpu pids")]),
    ("cgroups", "not-met", [("context.cgroups.unified", None), ("context.cgroups.mounted", ["cpu", "memory"])]),
    (
        "cgroups",
        "met",
        [
            ("context.cgroups.unified", None),
            ("context.cgroups.mounted", "cpu cpuacct cpuset memory devices blkio".split()),
        ],
    ),
    ("cgroups", "unknown", [("context.cgroups.unified", UNREAD), ("context.cgroups.mounted", None)]),
    ("tun", "met", []),
    ("tun", "not-met", [(f"{TUN}.type", None), (f"{TUN}.registered", False)]),
    ("tun", "not-met", [(f"{TUN}.type", None)]),
    ("tun", "not-met", [(f"{TUN}.type", "other")]),
    ("tun", "not-met", [(f"{TUN}.registered", False), (f"{TUN}.loadable", False)]),
    ("tun", "unknown", [(f"{TUN}.registered", False), (f"{TUN}.loadable", True)]),
    ("tun", "unknown", [(f"{TUN}.registered", False)]),
    ("tun", "unknown", [(f"{TUN}.registered", None)]),
    ("tun", "unknown", [("context.devices", {})]),
    ("vhost", "met", []),
    ("vhost", "not-met", [("context.devices.vhost-net.type", None)]),
    ("vhost-vsock", "met", []),
    ("vhost-vsock", "not-met", [("context.devices.vhost-vsock.type", None)]),
    ("memory>=60G", "met", []),
    ("memory>=64GiB", "not-met", []),
    ("memory>=1T", "not-met", []),
    ("memory<65536000K", "not-met", []),
    ("memory=65536000K", "met", []),
    ("memory>=1G", "unknown", [("context.memory_kb", None)]),
    ("hugepages>=1024", "met", []),
    ("hugepages>1024", "not-met", []),
    ("hugepages>=1", "not-met", [("context.huge_pages", {})]),
    ("hugepages>=1", "unknown", [("context.huge_pages", None)]),
    ("hugepages>=1", "unknown", [("context.huge_pages.2048kB.total", None)]),
    ("hugepages-1g>=16", "met", []),
    ("hugepages-1g>=17", "not-met", []),
    ("cpus>=2", "met", []),
    ("cpus>2", "not-met", []),
    ("cpus>=1", "unknown", [("cpus.online", None)]),
    ("microcode>=0x0A201210", "met", []),
    ("microcode>=0x0a201205", "met", []),
    ("microcode>=0x0A201211", "not-met", [("cpus.cpuinfo.1.microcode", "0xa201211")]),
    ("microcode>=0x0A201210", "unknown", [("cpus.cpuinfo.1.microcode", None)]),
    ("microcode>=0x0A201211", "not-met", [("cpus.cpuinfo.1.microcode", None)]),
    ("microcode>=0x0A201210", "unknown", [("cpus.cpuinfo", UNREAD)]),
    ("microcode>=0x08701021", "unknown", []),  # of another CPU model
    ("microcode>=0x01000065", "met", [("cpus.cpuinfo", {str(cpu): {"microcode": "0x10000c8"} for cpu in (0, 1)})]),
    ("microcode>=0x06000852", "unknown", level_everywhere("0x6003104")),  # family 0x15: another CPU model
    ("microcode>=0x06000852", "unknown", level_everywhere("0x600063e")),
    ("microcode<0x06000852", "unknown", level_everywhere("0x600063e")),
    ("microcode>=0x06000852", "met", level_everywhere("0x6000852")),
    ("microcode>=0x06000852", "not-met", level_everywhere("0x600084f")),
    ("microcode>=0x0700010f", "unknown", level_everywhere("0x7030106")),  # family 0x16
    ("microcode>=0x05000029", "unknown", level_everywhere("0x5000119")),  # family 0x14
    ("registers", "met", []),
    ("registers", "not-met", [("ioctls.KVM_CREATE_VM", {"error": "EBUSY"})]),
]


@pytest.mark.parametrize(("name", "status", "changes"), CASES)
def test_a_requirement_is_answered_from_the_evidence(name: str, status: str, changes: Any) -> None:
    evidence = server(*changes)
    if "0x01000065" in name:
        for cpu, info in recorded(CONFIRMED)["cpus"]["cpuinfo"].items():
            evidence["cpus"]["cpuinfo"][cpu] = {**info, **evidence["cpus"]["cpuinfo"][cpu]}
    assert answer(evidence, name) == status


@pytest.mark.parametrize(
    ("levels", "hint"),
    [
        ((None, None), "`grep microcode /proc/cpuinfo`"),
        (("0xa201210", None), "`grep microcode /proc/cpuinfo`"),
        (("0x8701021", "0x8701021"), "Give a patch level of the same CPU model"),
        (("0x8701021", None), "Give a patch level of the same CPU model"),
    ],
)
def test_the_hint_for_unknown_microcode_fits_what_is_missing(levels: tuple[str | None, ...], hint: str) -> None:
    evidence = server(*((f"cpus.cpuinfo.{cpu}.microcode", level) for cpu, level in enumerate(levels)))
    found = parse("microcode>=0x0A201210").ask(Facts(evidence))
    assert found.status == "unknown"
    assert hint in (found.hint or "")


def test_every_requirement_has_a_case_of_each_answer() -> None:
    found: dict[str, set[str]] = {}
    for name, status, _ in CASES:
        found.setdefault(name.split(">")[0].split("<")[0].split("=")[0], set()).add(status)
    own = {"registers", *(name for name in found if name != "registers")}
    assert own <= {name.split(">")[0] for name in ALL}
    for name in (
        "smt",
        "tsc-stable",
        "mitigated",
        "iommu",
        "cgroups",
        "tun",
        "memory",
        "hugepages",
        "cpus",
        "microcode",
    ):
        assert found[name] == {"met", "not-met", "unknown"}, name


@pytest.mark.parametrize("path", RECORDED, ids=recorded_name)
def test_what_older_evidence_does_not_have_is_unknown(path: Any) -> None:
    evidence = recorded(recorded_name(path))
    evidence.pop("context", None)
    of_context = ["smt", "smt-off", "tsc-stable", "mitigated", "iommu", "cgroups", "tun", "vhost", "vhost-vsock"]
    of_context += ["memory>=1K", "hugepages>=1", "hugepages-1g<=100"]
    assert {answer(evidence, name) for name in of_context} == {"unknown"}
    assert {answer(evidence, name) for name in ALL} <= {"met", "not-met", "unknown"}


def removals(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all values in evidence that may be null, or an error, in their place."""
    for name, value in data.items():
        yield (*path, name)
        if isinstance(value, dict):
            yield from removals(value, (*path, name))


def without(evidence: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """The evidence with null, and with an error, at `path`, where the schema allows it."""
    schema = report_schema()
    for value in (None, UNREAD):
        changed = copy.deepcopy(evidence)
        part = changed
        for step in path[:-1]:
            part = part[step]
        part[path[-1]] = value
        if first_error(changed, schema["$defs"]["evidence"], schema) is None:
            yield changed


VARIANTS = {
    "in order": [],
    "nothing there": [
        ("context.smt.active", "0"),
        ("context.clock.available", "hpet"),
        ("context.vulnerabilities.retbleed", "Vulnerable"),
        ("context.iommu.groups", 0),
        ("context.cgroups.unified", "cpu"),
        (f"{TUN}.type", None),
        ("context.memory_kb", 1),
        ("context.huge_pages", {}),
        ("cpus.cpuinfo.0.clock_flags", []),
    ],
}
NAMES = [name for name in ALL if name != "registers"]
NAMES += ["cpus<=1", "memory<1G", "hugepages<1", "kernel<6.0", "microcode<0x0A201210", "microcode>0x0A201210"]


@pytest.mark.parametrize("name", VARIANTS)
def test_evidence_that_is_missing_never_meets_a_requirement(name: str) -> None:
    """Without a part of the evidence an answer stays, or becomes unknown: what is not met is not met by less."""
    evidence = server(*VARIANTS[name])
    known = {name: answer(evidence, name) for name in NAMES}
    changed = 0
    for path in removals({part: evidence[part] for part in ("context", "cpus", "log")}):
        if path[-1] == "type":
            continue  # null is an answer: the node is missing
        for less in without(evidence, path):
            for demand, before in known.items():
                after = answer(less, demand)
                assert after in (before, "unknown"), (path, demand)
                changed += after != before
    assert changed > 20


@pytest.mark.parametrize(
    ("release", "version", "lowest", "highest"),
    [
        ("6.12.107+deb13-amd64", "#1 SMP", (6, 12, 107, 1000), (6, 12, 107, 1000)),
        ("6.12.0", "#1 SMP", (6, 12, 0, 1000), (6, 12, 0, 1000)),
        ("6.12.0-rc3", "#1", (6, 12, 0, 3), (6, 12, 0, 3)),
        ("6.12-rc6-amd64", "#1", (6, 12, 0, 6), (6, 12, 0, 6)),
        ("6.12.0-0.rc3.20241018git4d939780b705.31.fc42.x86_64", "#1", (6, 12, 0, 3), (6, 12, 0, 3)),
        ("5.10.0-32-amd64", "#1 SMP Debian 5.10.223-1 (2024-08-10)", (5, 10, 223, 1000), (5, 10, 223, 1000)),
        ("5.14.0-427.13.1.el9_4.x86_64", "#1 SMP", (5, 14, 0, 1000), (5, 14, 100_000, 1000)),
        ("6.8.0-45-generic", "#45-Ubuntu SMP", (6, 8, 0, 1000), (6, 8, 100_000, 1000)),
        ("6.11.5-arch1-1", "#1", (6, 11, 5, 1000), (6, 11, 5, 1000)),
        ("6.6.32-hardened1+", "#1", (6, 6, 32, 1000), (6, 6, 32, 1000)),
    ],
)
def test_a_kernel_has_the_versions_that_its_name_allows(
    release: str, version: str, lowest: tuple[int, ...], highest: tuple[int, ...]
) -> None:
    assert possible_versions(release, version) == (lowest, highest)


@pytest.mark.parametrize("release", ["", "linux", "6", "6.123456.1", "v6.12", "-6.12"])
def test_a_name_that_is_no_version_is_unknown(release: str) -> None:
    assert possible_versions(release, "") is None
    assert answer(server(("kernel.release", release)), "kernel>=6.12") == "unknown"


@pytest.mark.parametrize(
    ("release", "demand", "status"),
    [
        ("6.12.107+deb13-amd64", "kernel>=6.12", "met"),
        ("6.12.107+deb13-amd64", "kernel>=6.9", "met"),
        ("6.12.107+deb13-amd64", "kernel>6.12.107", "not-met"),
        ("6.12.0-rc3", "kernel>=6.12", "not-met"),
        ("6.12.0-rc3", "kernel>=6.12-rc3", "met"),
        ("6.12.0-rc10", "kernel>6.12-rc9", "met"),
        ("6.8.0-45-generic", "kernel>=6.8", "met"),
        ("6.8.0-45-generic", "kernel>=6.8.12", "unknown"),
        ("6.8.0-45-generic", "kernel>=6.9", "not-met"),
        ("6.8.0-45-generic", "kernel<6.9", "met"),
        ("6.8.0-45-generic", "kernel=6.8.12", "unknown"),
        ("6.8.0-45-generic", "kernel=6.9", "not-met"),
        ("6.8.5", "kernel=6.8.5", "met"),
    ],
)
def test_kernels_are_compared_by_their_versions(release: str, demand: str, status: str) -> None:
    assert answer(server(("kernel.release", release)), demand) == status


@pytest.mark.parametrize("text", ["", "6", "six", "6.12.", "6.12.0-45-generic", "6.12-rc", "-1.0", "6.12 ", "6.1\n"])
def test_a_limit_that_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a version"):
        parse_limit(text)
