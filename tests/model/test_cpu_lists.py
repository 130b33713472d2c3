"""CPU lists in the kernel's format, and CPUs grouped by their values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmprobe.model.cpu_lists import cpu_names, fold, format_cpulist, group, parse_cpulist, text_of


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        (None, []),
        ("", []),
        ("\n", []),
        ("0", [0]),
        ("0-2", [0, 1, 2]),
        ("0-1,4,6-7\n", [0, 1, 4, 6, 7]),
        ("3-3", [3]),
        ("65535", [65535]),
    ],
)
def test_a_list_is_read(text: str | None, cpus: list[int]) -> None:
    assert parse_cpulist(text) == cpus


@pytest.mark.parametrize(
    "text", ["x", "-1", "1-", "0,", ",0", "1,0", "1,1", "2-1", "65536", "0-99999999", "٣", "0x1", "1 2"]
)
def test_anything_else_is_an_error_that_quotes_it(text: str) -> None:
    with pytest.raises(ValueError, match="not a list of CPUs"):
        parse_cpulist(text)


def test_an_error_is_short() -> None:
    with pytest.raises(ValueError, match="not a list of CPUs") as caught:
        parse_cpulist("x" * 1000)
    assert len(str(caught.value)) < 120


@given(st.sets(st.integers(0, 65535)))
def test_what_was_written_is_read_again(cpus: set[int]) -> None:
    assert parse_cpulist(format_cpulist(cpus)) == sorted(cpus)


@pytest.mark.parametrize(
    ("cpus", "text", "name"),
    [([], "", "no CPU"), ([3], "3", "cpu3"), ([2, 0, 1, 1], "0-2", "cpu0-2"), ([0, 2, 3, 9], "0,2-3,9", "cpu0,2-3,9")],
)
def test_a_list_is_as_short_as_it_can_be(cpus: list[int], text: str, name: str) -> None:
    assert format_cpulist(cpus) == text
    assert cpu_names(cpus) == name


def test_a_long_list_is_cut_between_two_cpus_and_counted() -> None:
    name = cpu_names(range(1, 4096, 2))
    assert name == "cpu1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31,33,35,37,39,41,... (2,048 CPUs)"
    assert cpu_names(range(4096)) == "cpu0-4095"


def test_of_many_values_some_are_shown_and_all_counted() -> None:
    assert fold({cpu: cpu for cpu in range(6)}).count(" on cpu") == 6
    text = fold({cpu: cpu // 2 for cpu in range(4096)})
    assert text == (
        "0x0 on cpu0-1, 0x1 on cpu2-3, 0x2 on cpu4-5, 0x3 on cpu6-7, 0x4 on cpu8-9, and 2,043 more values on 4,086 CPUs"
    )


def test_groups_stand_in_the_order_of_their_first_cpu() -> None:
    assert list(group({3: "b", 0: "a", 4: "b"}).items()) == [("b", [3, 4]), ("a", [0])]


def test_equal_values_fold_into_one() -> None:
    assert fold({0: 0xD01, 1: 0xD01}) == "0xd01"
    assert fold({0: 0xD01, 1: 0x1D01, 2: 0xD01}) == "0xd01 on cpu0,2, 0x1d01 on cpu1"
    assert fold({0: None, 1: "EIO"}) == "unknown on cpu0, EIO on cpu1"
    assert fold({}) == "unknown"


def test_values_are_texts_for_people() -> None:
    texts = {None: "unknown", True: "yes", False: "no", 17: "0x11", "EIO": "EIO"}
    assert {value: text_of(value) for value in texts} == texts
