"""Text for people: what may be printed, how it is wrapped, aligned and coloured."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvmprobe.model.printable import BOLD, PLAIN, RED, ascii_only, clean, columns, counted, cut, one_line, paint, wrap


@given(st.text())
@example("\x1b[31m\ud800\u202e\n\x00")
def test_clean_text_is_printable_and_on_one_line(text: str) -> None:
    line = clean(text)
    assert line.isprintable()
    assert len(line.splitlines()) <= 1
    if text.isprintable():
        assert line == text


def test_clean_shows_what_it_replaced() -> None:
    assert clean("a\x1b[31mb\n\ud800") == "a\\x1b[31mb\\n\\ud800"


def test_one_line_joins_lines_and_drops_blank_ones() -> None:
    assert one_line("modprobe: ERROR: a\n\n  modprobe: ERROR: b\n") == "modprobe: ERROR: a; modprobe: ERROR: b"
    assert one_line("Load it:\n    modprobe kvm_amd", " ") == "Load it: modprobe kvm_amd"
    assert one_line("a\tb\r\nc") == "a\\tb; c"
    assert one_line("") == ""


@given(st.text())
@example("\ud800\U0001f600")
def test_ascii_only_gives_ascii(text: str) -> None:
    assert ascii_only(text).isascii()
    if text.isascii():
        assert ascii_only(text) == text


def test_ascii_only_keeps_the_meaning_of_our_signs() -> None:
    assert ascii_only("0xd01 → 0x1d01 … 3 µs, Ä") == "0xd01 -> 0x1d01 ... 3 us, \\xc4"


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    rows = [["", "before", "created"], ["EFER", "0xd01", ""], ["VM_HSAVE_PA"], []]
    assert columns(rows) == ["             before  created", "EFER         0xd01", "VM_HSAVE_PA", ""]
    assert columns([]) == []


WORDS = st.lists(st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=12), min_size=1)


@given(WORDS, st.integers(20, 90), st.integers(0, 8))
def test_wrapped_lines_fit_and_keep_every_word(words: list[str], width: int, hang: int) -> None:
    lines = wrap(" ".join(words), width, rest=" " * hang)
    assert " ".join(lines).split() == words
    assert all(len(line) <= width or " " not in line.strip() for line in lines)
    assert all(line.startswith(" " * hang) and line[hang] != " " for line in lines[1:])
    for line, following in zip(lines, lines[1:]):
        assert len(line) + 1 + len(following.split()[0]) > width, "each line is as full as it can be"


def test_lines_hang_below_the_text_of_the_first() -> None:
    for first in ("[ FAIL  ] ", paint("[ FAIL  ]", RED) + " "):
        assert wrap("kvm_amd: modprobe failed", 28, first, " " * 10) == [
            f"{first}kvm_amd: modprobe",
            "          failed",
        ]


def test_a_word_longer_than_the_line_is_not_broken() -> None:
    assert wrap("see /sys/module/kvm_amd/parameters now", 10, rest=" ") == [
        "see",
        " /sys/module/kvm_amd/parameters",
        " now",
    ]


def test_without_a_width_nothing_is_wrapped() -> None:
    text = "word " * 100
    assert wrap(text, None, "- ", "  ") == [f"- {text}"]


def test_spaces_within_a_line_stay() -> None:
    assert wrap("  a  b   c", 80) == ["  a  b   c"]
    assert wrap("  0.01  cpu0  svm_init", 12, rest=" " * 8) == ["  0.01  cpu0", "        svm_init"]


@pytest.mark.parametrize(
    ("colour", "wanted", "painted"), [(RED, True, f"{RED}x{PLAIN}"), (RED, False, "x"), ("", True, "x")]
)
def test_paint(colour: str, wanted: bool, painted: str) -> None:
    assert paint("x", colour, wanted) == painted


def test_colours_can_be_joined() -> None:
    assert paint("x", BOLD + RED) == "\033[1m\033[31mx\033[0m"


def test_counted_and_cut() -> None:
    assert [counted(number, "CPU") for number in (0, 1, 2, 4096)] == ["0 CPUs", "1 CPU", "2 CPUs", "4,096 CPUs"]
    assert (cut("abcdef", 6), cut("abcdef", 5), cut("abcdef", 5, "...")) == ("abcdef", "abcd…", "ab...")
