"""The kernel's command lines of two reports, compared."""

from __future__ import annotations

from typing import Any

import pytest

from kvmprobe.compare.difference import CHANGED, NOT_COMPARABLE
from tests.helpers.compared_reports import CONFIRMED, Change, changes
from tests.helpers.recorded_evidence import recorded

_EIO = {"error": "EIO"}


def evidence(line: Any, left_out: int | None = 3) -> Any:
    """Evidence with a command line; `left_out` -1: of an older version."""
    found = recorded(CONFIRMED)
    found["command_line"] = line
    if left_out == -1:
        found.pop("command_line_left_out", None)
    else:
        found["command_line_left_out"] = left_out
    return found


def row(rating: str, name: str, was: str, now: str) -> set[Change]:
    return {(rating, "parameters", f"command line{name}", was, now)}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([], ["mitigations=off"], row(CHANGED, " mitigations", "absent", "off")),
        (["mitigations=off"], [], row(CHANGED, " mitigations", "off", "absent")),
        (["kvm-amd.nested=0"], ["kvm_amd.nested=0"], set()),
        (["nosmt", "tsc=reliable"], ["tsc=reliable", "nosmt"], set()),
        (["nosmt"], ["nosmt=force"], row(CHANGED, " nosmt", "given", "force")),
        (
            ["clearcpuid=a", "clearcpuid=b"],
            ["clearcpuid=b", "clearcpuid=a"],
            row(CHANGED, " clearcpuid", "a b", "b a"),
        ),
        ([], _EIO, row(NOT_COMPARABLE, "", "read", "EIO")),
        (_EIO, _EIO, set()),
    ],
)
def test_what_changed_on_the_command_line(old: Any, new: Any, expected: set[Change]) -> None:
    assert changes(evidence(old), evidence(new)) == expected


def test_what_an_older_version_did_not_record_is_unknown() -> None:
    """It kept fewer parameters, so what it does not have may have been given."""
    old = evidence(["noexec=off"], -1)
    assert changes(old, evidence(["noexec=off", "mitigations=off"])) == row(
        NOT_COMPARABLE, " mitigations", "absent", "off"
    )
    assert changes(old, evidence(["noexec=on"])) == row(CHANGED, " noexec", "off", "on")
    assert changes(old, evidence([], -1)) == row(CHANGED, " noexec", "off", "absent")


def test_a_report_without_a_command_line_is_not_compared() -> None:
    old = evidence([], -1)
    del old["command_line"]
    assert changes(old, evidence(["mitigations=off"])) == set()
