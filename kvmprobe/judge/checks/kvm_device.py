"""Can /dev/kvm be opened?"""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, Result
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.other_owner import svm_is_held
from kvmprobe.model.cpu_lists import cpu_names
from kvmprobe.model.own_errors import is_own_error
from kvmprobe.model.values import error_of

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Device


def was_tried(facts: Facts) -> bool:
    """Whether opening /dev/kvm was tried, with success or without."""
    return facts.evidence["device"]["opened"] is not None


def kvm_device(facts: Facts) -> Result:
    """kvm_init() in virt/kvm/kvm_main.c: the misc device 'kvm' that it registers.

    Reads /sys/class/misc/kvm, the node's type and mode, and what opening it gave.
    Reasons: kvm-device-missing; kvm-not-permitted; svm-held-by-another-owner where a built-in kvm_amd refused;
    vm-not-created where a watched command never opened it.
    """
    device = facts.evidence["device"]
    path = device["path"]
    if device["opened"] is True:
        mode = f", {_mode(device)}" if device["mode"] else ""
        return Result(PASS, f"{path} ({device['number']}{mode}) can be opened")
    if device["registered"] is False:
        return _unregistered(facts, device)
    error = error_of(device["opened"])
    if error is None:
        return _not_opened(facts, path)
    mode = f" ({_mode(device)})" if device["mode"] else ""
    message = f"{path} cannot be opened: {error}"
    because = [f"{path}: {error}{mode}"]
    if is_own_error("open", error):
        return Result(UNKNOWN, f"{message}{mode}", "kvm-not-permitted", because=because)
    return Result(FAIL, message, "kvm-device-missing", because=because)


def _not_opened(facts: Facts, path: str) -> Result:
    if facts.watch:
        from kvmprobe.judge.checks.watched_command import created_no_vm

        return created_no_vm(facts.watch)
    if facts.passive:
        return Result(SKIP, f"--passive: {path} not opened")
    return Result(UNKNOWN, f"{path} was not opened")


def _unregistered(facts: Facts, device: Device) -> Result:
    set_before = facts.svme_set_before()
    answer = "/sys/class/misc/kvm: missing"
    if set_before:  # kvm_amd is built in and refused
        message = f"the kernel has not registered KVM; EFER.SVME is 1 on {cpu_names(set_before)} already"
        return svm_is_held(facts, message, answer)
    what = {None: "is missing", "char": "is a node without a driver"}.get(device["type"], f"is a {device['type']}")
    message = f"{device['path']} {what}: the kernel has not registered KVM"
    return Result(
        FAIL, message, "kvm-device-missing", because=[answer, f"{device['path']}: {device['type'] or 'missing'}"]
    )


def _mode(device: Device) -> str:
    return f"mode {device['mode']} {device['owner'] or '?'}:{device['group'] or '?'}"
