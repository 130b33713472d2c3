"""Does Linux's KVM answer?"""

from __future__ import annotations

from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, Result
from kvmprobe.judge.facts import Facts
from kvmprobe.model.own_errors import is_own_error
from kvmprobe.model.values import KVM_API_VERSION, error_of


def api_version(facts: Facts) -> Result:
    """kvm_dev_ioctl() in virt/kvm/kvm_main.c: KVM_GET_API_VERSION.

    Reads its answer. Reasons: api-version; kvm-not-permitted where a sandbox or security module refuses the ioctl.
    """
    answer = facts.evidence["ioctls"]["KVM_GET_API_VERSION"]
    if answer == KVM_API_VERSION:
        return Result(PASS, f"KVM_GET_API_VERSION = {answer}")
    if answer is None:
        return _not_called(facts)
    error = error_of(answer)
    if is_own_error("KVM_GET_API_VERSION", error):
        message = f"KVM_GET_API_VERSION was refused to this process: {error}"
        return Result(UNKNOWN, message, "kvm-not-permitted", because=[f"KVM_GET_API_VERSION: {error}"])
    text = error or str(answer)
    message = f"KVM_GET_API_VERSION = {text}, not {KVM_API_VERSION}"
    return Result(FAIL, message, "api-version", because=[f"KVM_GET_API_VERSION = {text}"])


def _not_called(facts: Facts) -> Result:
    if facts.watch:
        return Result(SKIP, "the watched command did not call KVM_GET_API_VERSION")
    if facts.passive:
        return Result(SKIP, "--passive: KVM_GET_API_VERSION not called")
    return Result(UNKNOWN, "KVM_GET_API_VERSION was not called")
