"""The table of causes: why a reason was given, where the evidence shows it, and what to do.

For one reason the first row counts whose question the evidence answers with yes. So the rows stand from the special
to the general, and what cannot change until a reboot stands before what the log shows of an earlier attempt.
"""

from __future__ import annotations

from kvmprobe.judge.causes import (
    access_rights,
    cpu_filtered,
    device_node,
    firmware_switch,
    hidden_svm,
    kernel_refused,
    memory_encryption,
    modprobe_setup,
    module_absent,
    module_refused,
    nested_failed,
    outer_hypervisor,
    svm_owner,
    unread_registers,
    vendor_slot,
)
from kvmprobe.judge.causes.cause import Cause, Found, hint_of
from kvmprobe.judge.causes.containers import on_the_host
from kvmprobe.judge.causes.quotes import last_lines
from kvmprobe.judge.facts import Facts

_ROWS = (
    *memory_encryption.CAUSES,
    *cpu_filtered.CAUSES,
    *firmware_switch.CAUSES,
    *hidden_svm.CAUSES,
    modprobe_setup.BLACKLISTED,
    vendor_slot.OTHER_VENDOR,
    *module_absent.CAUSES,
    modprobe_setup.INSTALL_LINE,
    *module_refused.LOADER,
    svm_owner.OVERRUN,
    *svm_owner.WITH_VMS,
    *kernel_refused.CAUSES,
    modprobe_setup.BLACKLIST_LINE,
    module_absent.NEEDS_ROOT,
    *module_refused.POLICY,
    kernel_refused.UNEXPLAINED,
    *svm_owner.LEFT_ON,
    *device_node.CAUSES,
    *access_rights.CAUSES,
    *outer_hypervisor.CAUSES,
    *unread_registers.CAUSES,
    *nested_failed.CAUSES,
)

_ALREADY_SO = ("modules-of-the-host",)  # its hint is about the host

CAUSES: dict[str, Cause] = {cause.name: cause for cause in _ROWS}


def find(facts: Facts, reason: str) -> tuple[str | None, list[str], str | None]:
    """The name of the cause of a verdict's reason, the evidence that shows it, and what to do, as `hint_of` has it.

    Where the evidence shows none: None, the last lines of the kernel's log about KVM, None.
    """
    for cause in CAUSES.values():
        if reason in cause.reasons:
            found = cause.ask(facts)
            if found is not None:
                hint = hint_of(cause, found, facts)
                before = "" if cause.name in _ALREADY_SO else on_the_host(facts, reason)
                return cause.name, found.because, before + hint
    return None, last_lines(facts), None


__all__ = ["CAUSES", "Cause", "Found", "find"]
