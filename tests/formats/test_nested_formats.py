"""A guest in a guest in each format."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kvmprobe.formats import render
from tests.helpers.judged_variants import variant
from tests.helpers.nested_variants import FAULT, GOOD, OFF, SHADOW, as_recorded, asked_for, not_run, supported

LABEL = "feature.node.kubernetes.io/kvmprobe.nested-guest"
METRIC = "kvmprobe_nested_guest_cpus"
FAILED = FAULT.format("no-paging")
PLAIN = "matrix/bookworm/epyc"


def _lines(format: str, base: str, change: Any = as_recorded, word: str = "nested") -> list[str]:
    """The lines of the output with a word."""
    return [line for line in render(variant(base, change), format).splitlines() if word in line]


@pytest.mark.parametrize(
    ("base", "change", "lines"),
    [
        (GOOD, as_recorded, [f"{LABEL}=true"]),
        (SHADOW, as_recorded, [f"{LABEL}=true"]),
        (GOOD, not_run("busy", cpus=(1,)), [f"{LABEL}=true"]),
        (FAILED, as_recorded, [f"{LABEL}=false"]),
        (OFF, as_recorded, [f"{LABEL}=false"]),
        (GOOD, not_run("busy"), []),
        (PLAIN, as_recorded, []),
    ],
)
def test_nfd_has_a_label_where_the_answer_is_known(base: str, change: Any, lines: list[str]) -> None:
    assert _lines("nfd", base, change, LABEL) == lines


def test_prometheus_counts_cpus_by_paging_and_state() -> None:
    some = not_run("busy", pagings=("shadow",), cpus=(1,))
    assert _lines("prometheus", GOOD, some, f"{METRIC}{{") == [
        f'{METRIC}{{paging="nested",state="works"}} 2',
        f'{METRIC}{{paging="nested",state="failed"}} 0',
        f'{METRIC}{{paging="nested",state="not_run"}} 0',
        f'{METRIC}{{paging="shadow",state="works"}} 1',
        f'{METRIC}{{paging="shadow",state="failed"}} 0',
        f'{METRIC}{{paging="shadow",state="not_run"}} 1',
    ]
    assert f'{METRIC}{{paging="shadow",state="failed"}} 2' in _lines("prometheus", FAILED, as_recorded, METRIC)
    assert _lines("prometheus", PLAIN, as_recorded, METRIC) == []


@pytest.mark.parametrize("format", ["ktap", "tap"])
def test_harnesses_get_a_case_for_it(format: str) -> None:
    good = [line.split("nested")[0].split()[0] for line in _lines(format, GOOD) if "# " not in line]
    assert good == ["ok"]
    (failed,) = (line for line in _lines(format, FAILED) if line.strip().startswith("not ok"))
    assert failed.endswith("nested")


def test_text_shows_each_run_and_what_kvm_offers() -> None:
    text = render(variant(GOOD, as_recorded), "text", 2)
    assert "guest in a guest on cpu1 with shadow paging: ok" in text
    assert "KVM_GET_SUPPORTED_CPUID 0x80000001: " in text
    assert "guest in a guest: the guest in the guest computed" in text
    refused = render(variant(GOOD, supported({"error": "EPERM"})), "text", 2)
    assert "KVM_GET_SUPPORTED_CPUID: EPERM" in refused
    assert "at VMRUN" in render(variant(FAILED, as_recorded), "text", 2)


@pytest.mark.parametrize(
    ("base", "change", "line"),
    [
        (GOOD, as_recorded, r"\[ PASS  \] guest in a guest: the guest in the guest computed"),
        (GOOD, not_run("busy", cpus=(1,)), r"\[ WARN  \] guest in a guest: the guest in the guest computed"),
        (FAILED, as_recorded, r"FAILED nested-guest-failed: the guest in the guest failed with nested paging"),
        (GOOD, not_run("busy"), r"INCONCLUSIVE nested-guest-not-run: no guest ran in a guest: busy"),
        ("hosts/kvm-pvm-without-svm", asked_for, r"\[ SKIP  \] guest in a guest: does not apply"),
    ],
)
def test_the_short_text_answers_who_asked(base: str, change: Any, line: str) -> None:
    """Once: in the verdict, or in a line of its own."""
    lines = render(variant(base, change), "text", 0).splitlines()
    assert len([one for one in lines if re.match(line, one)]) == 1
    assert len([one for one in lines if "the guest in the guest" in one and "Because" not in one]) <= 1


def test_nagios_names_the_check_that_failed() -> None:
    assert any(line.startswith("fail nested: ") for line in _lines("nagios", OFF))
