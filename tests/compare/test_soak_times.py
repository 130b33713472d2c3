"""Times of two soaks, and of single VMs, compared: what the spread of the old ones explains is no change."""

from __future__ import annotations

from typing import Any

import pytest

from kvmprobe.compare.difference import BETTER, CHANGED, NOT_COMPARABLE, WORSE
from tests.helpers.compared_reports import CONFIRMED, Change, changes
from tests.helpers.recorded_evidence import recorded

SOAK = "soak/bookworm"


def times(median: float, spread: float = 3.0, count: int = 100, shortest: float = 0.8) -> dict[str, Any]:
    """Percentiles in microseconds. In medians: `spread`: the 90th percentile and above; `shortest`: the minimum."""
    tail = median * spread
    return {
        "count": count,
        "min": median * shortest,
        "p50": median,
        "p90": tail,
        "p99": tail,
        "p99_9": tail,
        "max": tail,
    }


def soak(**fields: Any) -> Any:
    evidence = recorded(SOAK)
    evidence["soak"].update({"create": times(2000), "close": times(9000), **fields})
    return evidence


def timing(old: Any, new: Any) -> set[Change]:
    return {change for change in changes(old, new) if change[1] == "timing"}


def ratings(old: Any, new: Any) -> dict[str, str]:
    return {change[2]: change[0] for change in timing(old, new)}


_NO_TIMES = {"count": 0, **dict.fromkeys(("min", "p50", "p90", "p99", "p99_9", "max"))}


@pytest.mark.parametrize(
    ("was", "now", "rating"),
    [
        (times(10_000), times(60_000), WORSE),
        (times(60_000), times(10_000), BETTER),
        (times(10_000), times(31_000), WORSE),
        (times(10_000), times(29_000), None),  # within nine of ten times before
        (times(10_000, spread=1.1), times(19_000, spread=1.1), None),  # less than twice the median
        (times(10_000, spread=1.1), times(21_000), WORSE),
        (
            times(10_000),
            times(60_000, spread=1.1, shortest=0.1),
            None,
        ),  # the shortest is as short as before: other work
        (times(10_000), times(60_000, count=19), None),
        (times(10_000, count=1), times(60_000), None),
        (times(10_000), times(11_000, spread=12), CHANGED),  # only the tail
        (times(10_000), times(11_000, spread=10), None),
        (times(10_000), times(11_000, spread=12, count=99), None),
        (times(10_000), _NO_TIMES, None),
        (_NO_TIMES, _NO_TIMES, None),
        ({**_NO_TIMES, "count": 50}, {**_NO_TIMES, "count": 50}, None),
        ({**times(10_000), "p50": 0, "p90": 0}, times(10_000), WORSE),
    ],
)
def test_slower_is_worse_beyond_the_spread_of_the_old_times(was: Any, now: Any, rating: str | None) -> None:
    old, new = soak(), soak()
    old["soak"]["close"], new["soak"]["close"] = was, now
    assert ratings(old, new) == ({"closing a VM in the soak": rating} if rating else {})


def test_the_median_is_in_the_output_with_its_unit() -> None:
    old, new = soak(exits={"1": times(2.5)}), soak(exits={"1": times(25)})
    assert timing(old, new) == {
        (
            WORSE,
            "timing",
            "exit in the soak, cpu1",
            "min 2 us, p50 2.5 us, p99 7.5 us",
            "min 20 us, p50 25 us, p99 75 us",
        )
    }


def test_each_cpu_has_times_of_its_own() -> None:
    old = soak(guest={"0": times(500), "1": times(500)}, exits={"0": times(5), "10": times(5), "9": times(5)})
    new = soak(guest={"0": times(500), "1": times(9000)}, exits={"0": times(5), "10": times(5), "9": times(500)})
    assert ratings(old, new) == {"guest run in the soak, cpu1": WORSE, "exit in the soak, cpu9": WORSE}


def test_times_that_one_report_does_not_have_are_left_out() -> None:
    assert timing(soak(), soak(guest={"0": times(500)})) == set()
    assert timing(recorded(CONFIRMED), soak(create=times(9))) <= {
        change for change in timing(recorded(CONFIRMED), soak()) if change[2] == "probe"
    }


def test_soaks_of_other_numbers_of_vms_are_not_compared() -> None:
    old, new = soak(), soak()
    new["soak"].update(vms=4, close=times(60_000))
    assert ratings(old, new) == {"closing a VM in the soak": NOT_COMPARABLE}


def one_vm(create: float = 9e3, close: float = 2e4, guest: float = 700.0) -> Any:
    evidence = recorded(CONFIRMED)
    evidence["times"] = {"create": create, "close": close}
    for run in evidence["guest"]:
        run["us"] = guest
    return evidence


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (one_vm(create=1.2e5), {"KVM_CREATE_VM"}),
        (one_vm(close=3.2e5), {"closing the VM"}),
        (one_vm(guest=5e4), {"guest run on cpu0", "guest run on cpu1"}),
        (one_vm(create=3.9e4, close=5.9e4, guest=3.9e4), set()),  # 40 ms, or four times as long
        (recorded(CONFIRMED), set()),
    ],
)
def test_one_time_alone_is_never_worse(new: Any, expected: set[str]) -> None:
    assert ratings(one_vm(), new) == dict.fromkeys(expected, CHANGED)


def test_the_vms_that_set_and_clear_svme_have_times_of_their_own() -> None:
    """With several VMs at once, most of them neither set nor clear SVME, and hide what that costs in their median."""
    old = soak(first_create=times(9e3), last_close=times(2e4))
    assert ratings(old, soak(first_create=times(9e4), last_close=times(2e4))) == {
        "the first KVM_CREATE_VM of a cycle": WORSE
    }
    assert ratings(old, soak(first_create=times(9e3), last_close=times(2e5))) == {
        "closing the last VM of a cycle": WORSE
    }
    assert ratings(old, soak(first_create=times(9e4))) == {"the first KVM_CREATE_VM of a cycle": WORSE}
