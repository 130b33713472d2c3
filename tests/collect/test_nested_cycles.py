"""`soak --nested` counts a cycle only where a guest ran in a guest in it."""

from __future__ import annotations

from typing import Any

import pytest

from kvmprobe.collect.soak.soak_probe import SoakPlan, SoakProbe
from kvmprobe.host import modules, nested_guest
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.nested_rules import WORKS, kind_of

pytestmark = pytest.mark.usefixtures("kvm_device")

_SVM, _NO_SVM = ({"0x80000001": ["0x0", "0x0", ecx, "0x0"]} for ecx in ("0x4", "0x0"))
_EXIT = {"code": "0x81", "sum": "0x1"}
_REPORT = {"step": "VMRUN", "exception": None, "efer": "0x1000", "exits": [_EXIT], "expected": [_EXIT]}


def _run(result: str, detail: str | None = None, **more: Any) -> dict[str, Any]:
    return {"cpu": 0, "result": result, "detail": detail, "error": None, **more}


_GOOD = {"supported_cpuid": _SVM, "runs": {"shadow": [_run("ended", nested=_REPORT)]}}
_SKIPPED = {"supported_cpuid": _SVM, "runs": {"shadow": [_run("skipped", "busy")]}}


def _soak(answers: list[Any], vms: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The evidence of a soak on this host, in which each attempt to run a guest in a guest ends with one of `answers`.
    The first is that of the probe before the cycles."""
    left = iter(answers)

    def answer(*_: object) -> Any:
        return next(left)

    monkeypatch.setattr(nested_guest, "run_on_cpus", answer)
    monkeypatch.setattr(modules, "is_present", lambda *_: True)
    plan = SoakPlan((len(answers) - 1) // vms, None, vms, ("nested",), False, lambda _: None)
    probe = SoakProbe(Sysroot("/"), plan)
    probe.run(virt_at_load=True)
    return probe.extra_evidence()["soak"]


def test_the_good_run_of_these_tests_works() -> None:
    assert kind_of(_GOOD["runs"]["shadow"][0]) == WORKS  # type: ignore[index]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"supported_cpuid": {"error": "ENOMEM"}, "runs": {}}, "KVM_GET_SUPPORTED_CPUID: ENOMEM"),
        ({"supported_cpuid": {}, "runs": {}}, "KVM_GET_SUPPORTED_CPUID has no leaf 0x80000001"),
        (_SKIPPED, "busy"),
        ({"supported_cpuid": _SVM, "runs": {"shadow": []}}, "the guest itself was not run"),
    ],
)
def test_a_cycle_without_a_guest_in_a_guest_is_a_limit(bad: Any, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    soak = _soak([_GOOD, _GOOD, bad, bad], 1, monkeypatch)
    assert (soak["cycles"], soak["failed"], soak["steps"]) == (3, 0, {"nested": 1})
    assert f"no guest ran in a guest in 2 cycles, first in cycle 2: {why}" in soak["limits"]


def test_one_vm_of_a_cycle_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    soak = _soak([_GOOD, _GOOD, _SKIPPED, _SKIPPED, _GOOD], 2, monkeypatch)
    assert (soak["cycles"], soak["steps"]) == (2, {"nested": 2})
    assert not [limit for limit in soak["limits"] if "guest in a guest" in limit]


def test_svm_that_kvm_no_longer_offers_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    soak = _soak([_GOOD, _GOOD, {"supported_cpuid": _NO_SVM, "runs": {}}], 1, monkeypatch)
    assert (soak["failed"], soak["steps"]) == (1, {"nested": 1})
    (failure,) = soak["failures"]
    assert (failure["cycle"], failure["reason"]) == (2, "nested-guest-failed")
    assert failure["what"] == "KVM no longer offers SVM to guests (KVM_GET_SUPPORTED_CPUID 0x80000001 ECX.SVM = 0)"
