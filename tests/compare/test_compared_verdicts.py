"""How a change of the verdict or of a check is rated."""

from __future__ import annotations

from typing import Any

import pytest

from kvmprobe.compare import compare, report_pairs
from kvmprobe.compare.difference import BETTER, CHANGED, NOT_COMPARABLE, SAME, WORSE
from kvmprobe.judge import judge
from tests.helpers.compared_reports import CONFIRMED, FAILED, changes, differences
from tests.helpers.judged_variants import VARIANTS
from tests.helpers.recorded_evidence import EVIDENCE, recorded
from tests.helpers.variants import affinity_refused, guest_result, set_register

INCONCLUSIVE, NOT_APPLICABLE = "matrix/bookworm/ordinary-user", "hosts/kvm-pvm-without-svm"


def rating_and_status(old: str, new: str) -> tuple[str, int]:
    """How the change of the verdict is rated, and the exit status."""
    found = report_pairs.read(*(str(EVIDENCE / f"{name}.json") for name in (old, new)))
    (rating,) = (one.rating for one in found.pairs[0].differences if one.area == "verdict")
    return rating, found.exit_status()


@pytest.mark.parametrize(
    ("old", "new", "rating"),
    [
        (CONFIRMED, FAILED, WORSE),
        (CONFIRMED, INCONCLUSIVE, WORSE),
        (CONFIRMED, NOT_APPLICABLE, WORSE),
        (NOT_APPLICABLE, INCONCLUSIVE, WORSE),
        (INCONCLUSIVE, FAILED, WORSE),
        (FAILED, CONFIRMED, BETTER),
        (INCONCLUSIVE, CONFIRMED, BETTER),
        (NOT_APPLICABLE, CONFIRMED, BETTER),
        (FAILED, INCONCLUSIVE, NOT_COMPARABLE),
        (FAILED, NOT_APPLICABLE, NOT_COMPARABLE),
        (INCONCLUSIVE, NOT_APPLICABLE, NOT_COMPARABLE),
        ("matrix/bookworm/another-vm", CONFIRMED, CHANGED),
        ("matrix/bookworm/not-loaded", FAILED, CHANGED),
    ],
)
def test_ratings_of_verdicts(old: str, new: str, rating: str) -> None:
    found, status = rating_and_status(old, new)
    assert found == rating
    assert status == 1 or rating != WORSE


@pytest.mark.parametrize(
    ("other", "to_usable", "from_usable"),
    [
        (CONFIRMED, WORSE, BETTER),
        (NOT_APPLICABLE, BETTER, WORSE),
        (INCONCLUSIVE, BETTER, WORSE),
        (FAILED, BETTER, WORSE),
    ],
)
def test_usable_is_second_best(other: str, to_usable: str, from_usable: str) -> None:
    report, usable = judge(recorded(other)), judge(recorded(CONFIRMED))
    usable["verdict"] = {**usable["verdict"], "status": "usable", "reason": "guest-ran"}
    for pair, rating in (((report, usable), to_usable), ((usable, report), from_usable)):
        (found,) = (one for one in compare(*pair) if one.area == "verdict")
        assert found.rating == rating


def test_from_failed_to_unknown_is_not_better() -> None:
    assert rating_and_status(FAILED, "matrix/bookworm/ordinary-user")[0] == NOT_COMPARABLE
    found = differences(recorded(FAILED), recorded("matrix/bookworm/ordinary-user"))
    assert all(one.rating != BETTER for one in found if one.area in ("verdict", "checks"))


@pytest.mark.parametrize(("name", "base", "change", "reason"), VARIANTS, ids=[row[0] for row in VARIANTS])
def test_every_failure_is_worse_than_a_confirmed_host(name: str, base: str, change: Any, reason: str) -> None:
    evidence = recorded(base)
    change(evidence)
    ratings = {one.rating for one in compare(judge(recorded(CONFIRMED)), judge(evidence)) if one.area == "verdict"}
    status = judge(evidence)["verdict"]["status"]
    assert ratings <= ({SAME, CHANGED} if status == "confirmed" else {WORSE}), reason


def test_a_warning_counts_as_a_pass() -> None:
    warned, failed = recorded(CONFIRMED), recorded(CONFIRMED)
    affinity_refused(warned)
    guest_result("failed", "EIO")(failed)
    assert (CHANGED, "checks", "guest", "pass", "warn") in changes(recorded(CONFIRMED), warned)
    assert (WORSE, "checks", "guest", "warn", "fail") in changes(warned, failed)
    assert (BETTER, "checks", "guest", "fail", "warn") in changes(failed, warned)


def test_a_kernel_that_overruns_another_owner_is_worse_than_one_that_refuses() -> None:
    overrun = recorded(CONFIRMED)
    set_register(overrun, "before", "EFER", "0x1d01", ("1",))
    found = differences(recorded("matrix/bookworm/held-second"), overrun)
    assert not [one for one in found if one.rating == BETTER]
    (verdict,) = (one for one in found if one.area == "verdict")
    assert (verdict.rating, verdict.now) == (WORSE, "failed svm-held-by-another-owner (kvm-overran-owner)")


@pytest.mark.parametrize(
    ("was", "now", "rating"),
    [
        ("EBUSY", "EINVAL", WORSE),
        ("EIO", "ENODEV", WORSE),
        ("EBUSY", "EIO", CHANGED),
        ("EINVAL", "EBUSY", CHANGED),
        ("EINVAL", "ENODEV", CHANGED),
        ("EBUSY", "EMFILE", CHANGED),
    ],
)
def test_the_errno_of_a_refused_vm_is_part_of_the_abi(was: str, now: str, rating: str) -> None:
    old, new = recorded("matrix/bookworm/held-second"), recorded("matrix/bookworm/held-second")
    for evidence, error in ((old, was), (new, now)):
        evidence["ioctls"]["KVM_CREATE_VM"] = {"error": error}
    (found,) = (one for one in differences(old, new) if one.subject == "KVM_CREATE_VM")
    assert (found.rating, found.was, found.now) == (rating, was, now)


def test_svme_that_a_failed_kvm_create_vm_leaves_set_is_worse() -> None:
    old, new = recorded("matrix/bookworm/held-second"), recorded("matrix/bookworm/held-second")
    set_register(new, "closed", "EFER", "0x1d01")
    (found,) = (one for one in differences(old, new) if one.subject == "EFER")
    assert found.rating == WORSE
