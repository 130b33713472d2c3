"""Outliers: which hosts of a fleet differ from most with the same CPU model and kernel, and in what."""

from __future__ import annotations

from typing import Any

from kvmprobe.summary.fleet import natural
from tests.helpers.fleet_reports import equal_hosts, host
from tests.helpers.summaries import summary_of


def outliers(reports: list[Any]) -> list[tuple[list[str], list[tuple[str, str, str, int]]]]:
    """The names of each group, and its unusual values."""
    return [
        ([one.name for one in group.hosts], [(one.what, one.value, one.usual, one.number) for one in group.values])
        for group in summary_of(reports).outliers
    ]


def test_the_worst_verdict_comes_first_then_the_smallest_group() -> None:
    reports = equal_hosts(30)
    reports[3] = host("node-3", microcode="0x1000064")
    reports[4] = host("node-4", parameters={"nested": "0"})
    reports[15] = host("node-15", microcode="0x1000064")
    reports[9] = host("node-9", "matrix/bookworm/svme-not-set")
    assert outliers(reports) == [
        (["node-9"], [("verdict", "failed svme-not-set", "confirmed", 29), ("warnings", "guest", "none", 29)]),
        (["node-4"], [("kvm_amd.nested", "0", "1", 29)]),
        (["node-3", "node-15"], [("microcode", "0x1000064", "0x1000065", 28)]),
    ]


def test_two_hosts_have_no_outlier() -> None:
    assert outliers([host("a"), host("b", microcode="0x9")]) == []
    assert len(outliers([host("a"), host("b", microcode="0x9"), host("c")])) == 1


def test_two_halves_have_no_outlier() -> None:
    halves = [*equal_hosts(10), *(host(f"m{index}", microcode="0x9") for index in range(10))]
    assert outliers(halves) == []


def test_a_bare_majority_is_not_usual() -> None:
    """28 of 55 hosts have one value, 26 another one: neither is usual, so the last host is no outlier."""

    def fleet(most: int, others: int) -> list[Any]:
        return [*equal_hosts(most), *(host(f"m{index}", microcode="0x9") for index in range(others)), host("z", **last)]

    last = {"microcode": "0x8"}
    assert outliers(fleet(28, 26)) == []
    assert outliers(fleet(36, 18)) == []
    assert outliers(fleet(37, 17)) == [(["z"], [("microcode", "0x8", "0x1000065", 37)])]


def test_at_most_a_tenth_are_outliers() -> None:
    few = [host(f"m{index}", microcode="0x9") for index in range(2)]
    assert len(outliers([*equal_hosts(18), *few])) == 1
    assert outliers([*equal_hosts(17), *few]) == []


def test_a_host_alone_with_its_kernel_is_no_outlier() -> None:
    assert outliers([*equal_hosts(10), host("t", "matrix/trixie/epyc")]) == []


def test_all_confirmed_verdicts_are_equal() -> None:
    assert outliers([*equal_hosts(10), host("v", "matrix/bookworm/another-vm")]) == []


def test_an_unknown_value_is_no_outlier() -> None:
    assert outliers([*equal_hosts(10), host("u", microcode=None)]) == []


def test_names_sort_in_their_natural_order() -> None:
    names = ["node10", "node9", "a", "node09b", "10", "9", "node"]
    assert sorted(names, key=natural) == ["9", "10", "a", "node", "node09b", "node9", "node10"]
