"""KTAP and JUnit of every recorded report and variant, read by a strict parser and checked against a schema.

The kernel's own parser reads them in tests/lab/test_kernel_tools.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import xmlschema

from kvmprobe.formats import SUITE_FORMATS, junit, ktap, render
from kvmprobe.formats.harness_cases import ERROR, Case, Suite
from kvmprobe.judge import judge
from kvmprobe.model.verdict_status import EXIT_STATUS
from tests.helpers import strict_ktap
from tests.helpers.judged_reports import all_reports
from tests.helpers.judged_variants import VARIANTS, variant
from tests.helpers.recorded_evidence import EVIDENCE, recorded
from tests.helpers.run_kvmprobe import kvmprobe
from tests.helpers.strict_ktap import Test

# Jenkins' schema (its xunit plugin, MIT licence), as it stands in pytest's source: testing/example_scripts.
_SCHEMA = xmlschema.XMLSchema10(Path(__file__).parents[1] / "helpers/published/junit-10.xsd")


@pytest.mark.parametrize("report", all_reports())
def test_every_report_as_ktap(report: Any) -> None:
    """The names of cases are constant, and a case fails if and only if the exit status is 1 or 3."""
    whole = strict_ktap.parse(render(report, "ktap"))
    verdict = report["verdict"]
    if verdict["status"] == "not applicable":
        assert (whole.skip, whole.tests) == (verdict["reason"], [])
        return
    assert whole.names() == [check["id"] for check in report["checks"]]
    assert all(test.ok for test in whole.tests) == (verdict["status"] in ("confirmed", "usable"))
    for test, check in zip(whole.tests, report["checks"]):
        assert f"# {check['id']}: {check['message']}" in test.comments
        if test.skip:
            blocked = "blocked" if check["blocked_by"] else None
            assert test.tests == [] or test.skip == "unknown"
            assert test.skip == (blocked or {"skip": "not-applicable", "unknown": "unknown"}[check["status"]])
        assert len(test.tests) != 1
        assert all(inner.startswith("cpu") and inner[3:].isdecimal() for inner in test.names())


@pytest.mark.parametrize("report", all_reports())
def test_every_report_as_junit(report: Any) -> None:
    text = render(report, "junit")
    assert text.isascii()
    _SCHEMA.validate(text)
    root = ElementTree.fromstring(text)
    cases = list(root.iter("testcase"))
    suite = root[0]
    for element, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert len(list(suite.iter(element))) == int(suite.attrib[count])
    assert int(suite.attrib["tests"]) == int(root.attrib["tests"]) == len(cases)
    status = report["verdict"]["status"]
    failures, errors = int(suite.attrib["failures"]), int(suite.attrib["errors"])
    assert bool(failures or errors) == (status in ("failed", "inconclusive"))
    assert failures if status == "failed" else status == "inconclusive" or not failures
    assert errors == 0 or status == "inconclusive"
    if status == "not applicable":
        assert [case.attrib["name"] for case in cases] == ["kvmprobe"]
        assert suite.attrib["skipped"] == "1"
    else:
        names = [case.attrib["name"] for case in cases if "." not in case.attrib["name"]]
        assert names == [check["id"] for check in report["checks"]]


def _check(name: str, check: str) -> Test:
    report = judge(recorded(name))
    return next(test for test in strict_ktap.parse(render(report, "ktap")).tests if test.name == check)


def _cpus(test: Test) -> dict[str, str]:
    return {cpu.name: cpu.skip or ("ok" if cpu.ok else "not ok") for cpu in test.tests}


@pytest.mark.parametrize(
    ("name", "check", "cpus"),
    [
        ("matrix/bookworm/epyc", "svme", {}),
        ("matrix/bookworm/held-second", "create-vm", {"cpu0": "ok", "cpu1": "not ok"}),
        ("matrix/trixie/held-second", "kvm-amd", {"cpu0": "ok", "cpu1": "not ok"}),
        ("matrix/bookworm/held-every", "create-vm", {}),
        ("matrix/bookworm/svme-not-set", "svme", {"cpu0": "ok", "cpu1": "not ok"}),
        ("matrix/bookworm/svme-not-set", "guest", {"cpu0": "ok", "cpu1": "not-applicable"}),
        ("matrix/bookworm/svme-not-cleared", "release", {"cpu0": "ok", "cpu1": "ok", "cpu2": "not ok"}),
    ],
)
def test_cpus_are_nested_where_they_differ(name: str, check: str, cpus: dict[str, str]) -> None:
    assert _cpus(_check(name, check)) == cpus


@pytest.mark.parametrize(
    ("name", "check", "cpus"),
    [
        ("no SVM bit on cpu1", "svm-bit", {"cpu0": "ok", "cpu1": "not ok"}),
        ("SVMDIS on cpu1", "firmware", {"cpu0": "ok", "cpu1": "not ok"}),
        ("EFER EIO on cpu1", "svme", {"cpu0": "ok", "cpu1": "not ok"}),
    ],
)
def test_cpus_of_a_variant(name: str, check: str, cpus: dict[str, str]) -> None:
    base, change = next((base, change) for known, base, change, _ in VARIANTS if known == name)
    whole = strict_ktap.parse(render(variant(base, change), "ktap"))
    assert _cpus(whole.tests[whole.names().index(check)]) == cpus


def test_the_check_that_decided_is_not_ok_and_other_unknown_checks_are_skipped() -> None:
    report = judge(recorded("matrix/bookworm/ordinary-user"))
    whole = strict_ktap.parse(render(report, "ktap"))
    assert [test.name for test in whole.tests if not test.ok] == ["kvm-device"]
    assert {test.name for test in whole.tests if test.skip == "unknown"} >= {"firmware", "sev-guest"}


@pytest.mark.parametrize("name", ["matrix/bookworm/user-of-kvm", "matrix/bookworm/epyc"])
def test_a_usable_verdict_passes_whatever_is_unknown(name: str) -> None:
    report = judge(recorded(name))
    report["verdict"].update({"status": "usable", "reason": "guest-ran"})
    whole = strict_ktap.parse(render(report, "ktap"))
    assert whole.skip is None
    assert all(test.ok for test in whole.tests)
    suite = ElementTree.fromstring(render(report, "junit"))[0]
    assert (suite.attrib["failures"], suite.attrib["errors"]) == ("0", "0")


def test_hostile_values_add_no_line_and_no_name() -> None:
    evil = "a\nnot ok 1 b # SKIP \x1b[31m\ud800\ufffe\x00 <]]>&\"'"
    suite = Suite("evil", [Case("a#b", ERROR, evil, more=[evil])], properties={"x\n1..7": evil})
    whole = ktap.render(suite)
    assert whole.splitlines()[-1] == "not ok 1 a-b"
    assert [line[:2] for line in whole.splitlines()] == ["KT", "1.", "# ", "# ", "# ", "no"]
    text = junit.render(suite)
    _SCHEMA.validate(text)
    assert ElementTree.fromstring(text).find(".//error") is not None


@pytest.mark.parametrize("name", SUITE_FORMATS)
def test_the_command_and_its_exit_status(name: str, tmp_path: Path) -> None:
    for scenario, status in (("epyc", "confirmed"), ("no-svm", "failed"), ("intel", "not applicable")):
        evidence = f"matrix/bookworm/{scenario}"
        done = kvmprobe("judge", "--format", name, EVIDENCE / f"{evidence}.json", "-o", tmp_path / "result")
        reported = f"kvmprobe: wrote {tmp_path / 'result'} ({name})\n"
        assert (done.returncode, done.stdout, done.stderr) == (EXIT_STATUS[status], "", reported)
        assert (tmp_path / "result").read_text() == render(judge(recorded(evidence)), name)


def test_a_report_of_this_host() -> None:
    done = kvmprobe("check", "--format", "ktap")
    whole = strict_ktap.parse(done.stdout)
    if done.returncode == EXIT_STATUS["not applicable"]:
        assert whole.skip
    else:
        assert all(test.ok for test in whole.tests) == (done.returncode == 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "TAP version 13\n1..1\nok 1 a\n",
        "KTAP version 1\n1..2\nok 1 a\n",
        "KTAP version 1\n1..1\nok 1 a\nok 2 b\n",
        "KTAP version 1\n1..1\nok 2 a\n",
        "KTAP version 1\n1..2\nok 1 a\nok 2 a\n",
        "KTAP version 1\n1..1\nok 1 a # TODO b\n",
        "KTAP version 1\n1..1\nnot ok 1 a # SKIP b\n",
        "KTAP version 1\n1..1\nok 1 a 0x1d01\n",
        "KTAP version 1\n1..1\nsomething\nok 1 a\n",
        "KTAP version 1\n1..0\n",
        "KTAP version 1\n# a: b\n1..1\nok 1 a\n",
        "KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  not ok 1 b\nok 1 a\n",
        "KTAP version 1\n1..1\n    KTAP version 1\n    1..1\n    ok 1 b\nok 1 a\n",
        "KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  ok 1 b\n",
    ],
)
def test_the_strict_parser_is_strict(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        strict_ktap.parse(text)


def test_a_warning_is_ok_with_its_message() -> None:
    test = _check("matrix/bookworm/low-highest-leaf", "extended-leaf")
    assert (test.ok, test.skip) == (True, None)
    assert "no nested paging" in test.comments[0]


def test_a_cpu_of_a_rule_that_became_a_warning_does_not_fail() -> None:
    """One CPU has no SVM bit although the registers show SVM at work: a warning, also for that CPU."""
    evidence = recorded("matrix/bookworm/epyc")
    evidence["cpus"]["cpuid"]["1"]["0x80000001"][2] = "0x1"
    whole = strict_ktap.parse(render(judge(evidence), "ktap"))
    assert _cpus(whole.tests[whole.names().index("svm-bit")]) == {"cpu0": "ok", "cpu1": "ok"}


def test_a_cpu_number_may_be_a_whole_float() -> None:
    """JSON Schema accepts 1.0 as an integer."""
    evidence = recorded("matrix/bookworm/epyc")
    evidence["guest"][1].update(cpu=1.0, result="wrong")
    strict_ktap.parse(render(judge(evidence), "ktap"))
