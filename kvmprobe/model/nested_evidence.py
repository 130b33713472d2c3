"""The types of the evidence that --nested takes; see evidence.py."""

from __future__ import annotations

from typing import TypedDict

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Failure, GuestRun, Leaf


class NestedExit(TypedDict):
    """How the inner guest left: from its VMCB."""

    code: str  # the exit code, hexadecimal: "0x81"
    sum: str  # EAX, hexadecimal


class NestedReport(TypedDict):
    """What the outer guest of a guest in a guest reported, and what its inner guest should have left."""

    step: str | None  # that the outer guest began last: "VMRUN"
    exception: int | None  # the vector of an exception in the outer guest
    efer: str | None  # as the outer guest read it after it had set SVME
    exits: list[NestedExit]
    expected: list[NestedExit]


class Nested(TypedDict):
    """Guests that run a guest. Missing where --nested was not given."""

    supported_cpuid: dict[str, Leaf] | Failure | None  # KVM_GET_SUPPORTED_CPUID, by leaf; None: no VM was created
    # By the paging of the inner guest, "nested" or "shadow": only those that KVM offers. A run's result is "ended" or
    # "exception" where the outer guest reported its end, and as of the guest otherwise.
    runs: dict[str, list[GuestRun]]
