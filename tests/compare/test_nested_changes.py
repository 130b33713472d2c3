"""What changed of a guest in a guest: worse where it ran before and does not now."""

from __future__ import annotations

from typing import Any

import pytest

from kvmprobe.compare import compare
from kvmprobe.compare.difference import BETTER, CHANGED, NOT_COMPARABLE, SAME, WORSE
from kvmprobe.judge import judge
from tests.helpers.nested_variants import FAULT, GOOD, OFF, SHADOW, as_recorded, not_run
from tests.helpers.recorded_evidence import recorded

PLAIN = "matrix/bookworm/epyc"
FAILED = FAULT.format("no-paging")


def _report(name: str, change: Any = as_recorded) -> Any:
    evidence = recorded(name)
    change(evidence)
    return judge(evidence)


def _ratings(old: Any, new: Any) -> dict[str, str]:
    """The ratings of the verdict, of the check, and of each kind of paging."""
    found = compare(old, new)
    wanted = [one for one in found if one.area in ("verdict", "nested") or one.subject == "nested"]
    return {one.subject.removeprefix("guest in a guest, "): one.rating for one in wanted}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (GOOD, GOOD, (SAME, SAME, SAME, SAME)),
        (GOOD, FAILED, (WORSE, WORSE, WORSE, WORSE)),
        (GOOD, OFF, (WORSE, WORSE, WORSE, WORSE)),
        (GOOD, SHADOW, (SAME, SAME, WORSE, SAME)),
        (SHADOW, GOOD, (SAME, SAME, BETTER, SAME)),
        (FAILED, GOOD, (BETTER, BETTER, BETTER, BETTER)),
        (FAILED, OFF, (SAME, SAME, NOT_COMPARABLE, NOT_COMPARABLE)),
        (OFF, FAILED, (SAME, SAME, WORSE, WORSE)),
    ],
)
def test_each_kind_of_paging_is_compared(old: str, new: str, expected: tuple[str, ...]) -> None:
    names = ("verdict", "nested", "nested paging", "shadow paging")
    assert _ratings(_report(old), _report(new)) == dict(zip(names, expected))


def test_a_guest_that_was_not_run_is_worse_than_one_that_ran() -> None:
    some = not_run("the CPU is busy", pagings=("nested",))
    assert _ratings(_report(GOOD), _report(GOOD, some))["nested paging"] == WORSE
    assert _ratings(_report(GOOD, some), _report(GOOD))["nested paging"] == BETTER
    unknown = _ratings(_report(FAILED), _report(GOOD, not_run("the CPU is busy")))
    assert unknown["nested paging"] == NOT_COMPARABLE


@pytest.mark.parametrize(("old", "new"), [(PLAIN, GOOD), (GOOD, PLAIN)])
def test_what_only_one_report_has_is_no_change_for_the_worse(old: str, new: str) -> None:
    assert _ratings(_report(old), _report(new)) == {"verdict": SAME, "nested": CHANGED}
