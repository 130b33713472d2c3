"""Times and durations: what is written is read again, and nothing else is."""

from __future__ import annotations

import pytest

from kvmprobe.model.times import format_duration, format_time, parse_duration, parse_time


@pytest.mark.parametrize("seconds", [0, 951_782_400, 1_795_363_671, 253_402_300_799])
def test_a_time_is_read_as_it_was_written(seconds: int) -> None:
    assert parse_time(format_time(seconds)) == seconds


def test_a_time_is_utc() -> None:
    assert format_time(1_795_363_671) == "2026-11-22T16:07:51Z"


def test_a_time_before_1970_is_1970() -> None:
    assert format_time(-1e12) == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-22 16:07:51Z",
        "2026-11-22T16:07:51",
        "2026-11-22T16:07:51+01:00",
        "2026-1-2T3:4:5Z",
        "2026-11-22T16:07:51Z\n",
        "2026-02-30T00:00:00Z",
        "2026-11-22T25:00:00Z",
        "99999-11-22T16:07:51Z",
    ],
)
def test_any_other_text_is_no_time(text: str) -> None:
    assert parse_time(text) is None


@pytest.mark.parametrize(("text", "seconds"), [("1s", 1), ("90m", 5400), ("26h", 93600), ("7d", 604800)])
def test_a_duration_needs_its_unit(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds
    for wrong in (text[:-1], f"-{text}", f"{text} ", f"0{text[-1]}", f"{text[:-1]}w"):
        with pytest.raises(ValueError, match="not a number with its unit"):
            parse_duration(wrong)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172799, "47 h"), (172800, "2 d")],
)
def test_a_duration_is_written_in_the_largest_unit_that_it_has_twice(seconds: int, text: str) -> None:
    assert format_duration(seconds) == text
