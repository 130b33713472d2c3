"""The explanation of a reason: all that the table has, in lines that fit a terminal."""

from __future__ import annotations

import pytest

from kvmprobe.formats import explanation
from kvmprobe.judge.causes import CAUSES
from kvmprobe.model.reasons import REASONS
from kvmprobe.model.verdict_status import EXIT_STATUS


@pytest.mark.parametrize("name", REASONS)
def test_a_reason_in_full(name: str) -> None:
    reason = REASONS[name]
    text = explanation.render(name)
    lines = text.splitlines()
    assert lines[0] == f"{name}: {reason.status}, exit status {EXIT_STATUS[reason.status]}"
    assert [line for line in lines if line.endswith(":") and line[0] != " "] == [
        "When:",
        "In the kernel:",
        "In its log:",
        "What to do:",
    ]
    assert max(map(len, lines)) <= 80
    words = " ".join(text.split())
    for part in (reason.when, reason.kernel, reason.log, reason.hint):
        assert part in words


@pytest.mark.parametrize("name", CAUSES)
def test_a_cause_in_full(name: str) -> None:
    cause = CAUSES[name]
    text = explanation.render(name)
    words = " ".join(text.split())
    for part in (f"{name}: a cause of {', '.join(cause.reasons)}", cause.when, cause.what_to_do()):
        assert part in words
    assert [line for line in text.splitlines() if line.endswith(":") and line[0] != " "] == ["When:", "What to do:"]


def test_every_step_of_a_hint_begins_a_line() -> None:
    text = explanation.render("svm-held-by-another-owner")
    hint = text.partition("What to do:\n")[2]
    assert sum(line.startswith("  ") and line[2] != " " for line in hint.splitlines()) >= 3


def test_without_a_name_all_reasons_and_all_causes() -> None:
    rows = [line.split(maxsplit=1) for line in explanation.render(None).splitlines()]
    assert rows[: len(REASONS)] == [[reason.name, reason.status] for reason in REASONS.values()]
    assert [name for name, _ in rows[len(REASONS) :]] == list(CAUSES)
