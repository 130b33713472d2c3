"""Evidence of a soak, changed: cycles that failed, that were disturbed, that were not run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.helpers.variants import Evidence, Variant

SOAK = "soak/bookworm"

UNREAD = {"cycle": 2, "step": "hotplug", "what": "the registers can no longer be read: EIO", "reason": "msr-unreadable"}
NOT_SET = {"cycle": 3, "step": "cycle", "what": "EFER.SVME is 0 on cpu1", "reason": "svme-not-set"}
GONE = {"cycle": 4, "step": "reload", "what": "/dev/kvm cannot be opened again: ENOENT", "reason": "kvm-device-missing"}


def soak(**fields: Any) -> Callable[[Evidence], None]:
    return lambda evidence: evidence["soak"].update(fields)


def all_disturbed(evidence: Evidence) -> None:
    evidence["soak"]["interfered"] = evidence["soak"]["cycles"]


def all_disturbed_but_one(evidence: Evidence) -> None:
    evidence["soak"]["interfered"] = evidence["soak"]["cycles"] - 1


def of_another_vendor(evidence: Evidence) -> None:
    """A failure among many cycles decides, also where a single VM would be "not applicable"."""
    evidence["soak"].update(failed=1, failures=[NOT_SET])
    for leaves in evidence["cpus"]["cpuid"].values():
        leaves["0x0"][1:] = ["0x756e6547", "0x6c65746e", "0x49656e69"]
        leaves["0x80000001"][2] = "0x1"


SOAKED: tuple[Variant, ...] = (
    ("soak: all cycles disturbed", SOAK, all_disturbed, "interfered"),
    ("soak: all cycles but one disturbed", SOAK, all_disturbed_but_one, "svme-set-by-create-vm"),
    ("soak: one cycle disturbed", SOAK, soak(interfered=1), "svme-set-by-create-vm"),
    ("soak: no cycle", SOAK, soak(cycles=0), "svme-set-by-create-vm"),
    ("soak: one cycle", SOAK, soak(cycles=1), "svme-set-by-create-vm"),
    ("soak: not all done", SOAK, soak(limits=["cpu1 cannot go offline"]), "svme-set-by-create-vm"),
    ("soak: a step was not done", SOAK, soak(steps={"reload": 0}, limits=["kvm_amd is in use"]), "soak-step-not-done"),
    (
        "soak: a step was not done, no limit",
        SOAK,
        soak(steps={"hotplug": 3, "kill": 0}, limits=[]),
        "soak-step-not-done",
    ),
    (
        "soak: a step was done once",
        SOAK,
        soak(steps={"reload": 1}, limits=["cpu1 cannot go offline"]),
        "svme-set-by-create-vm",
    ),
    (
        "soak: a step was not done, failed",
        SOAK,
        soak(steps={"reload": 0}, failed=1, failures=[NOT_SET]),
        "svme-not-set",
    ),
    ("soak: failures are not listed", SOAK, soak(failed=3), "observers-disagree"),
    ("soak: registers unreadable", SOAK, soak(failed=1, failures=[UNREAD]), "msr-unreadable"),
    ("soak: unreadable, then SVME 0", SOAK, soak(failed=2, failures=[UNREAD, NOT_SET]), "svme-not-set"),
    ("soak: SVME 0, then unreadable", SOAK, soak(failed=2, failures=[NOT_SET, UNREAD]), "svme-not-set"),
    ("soak: unreadable twice", SOAK, soak(failed=2, failures=[UNREAD, {**UNREAD, "cycle": 9}]), "msr-unreadable"),
    ("soak: four failures", SOAK, soak(failed=4, failures=[{**NOT_SET, "cycle": n} for n in range(4)]), "svme-not-set"),
    ("soak: /dev/kvm is gone", SOAK, soak(failed=1, failures=[GONE]), "kvm-device-missing"),
    ("soak: failed, other cycles disturbed", SOAK, soak(failed=1, failures=[NOT_SET], interfered=1), "svme-not-set"),
    ("soak: failed on another vendor's CPU", SOAK, of_another_vendor, "svme-not-set"),
)
