"""What a check gives, and what it is."""

from __future__ import annotations

from collections.abc import Mapping

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import fold

if TYPE_CHECKING:
    from typing import Callable


PASS, FAIL, WARN, SKIP, UNKNOWN = "pass", "fail", "warn", "skip", "unknown"


class Result:
    """`reason` (of reasons.py) is the verdict's if this check decides it; `hint` is put in place of the reason's."""

    def __init__(self, status: str, message: str, reason: str | None = None, hint: str | None = None) -> None:
        self.status = status
        self.message = message
        self.reason = reason
        self.hint = hint


class Check:
    """`function`: the kernel's function that does this step, `since_at_load` its name on kernels that have
    enable_virt_at_load (6.12); `parent`: the check it stands under in a tree.

    `needs`: a check without whose success this one makes no sense, unless it was `reached` all the same.
    `applies`: whether the evidence has what it is about; where not, the check is left out.
    """

    def __init__(
        self,
        id: str,
        parent: str | None,
        title: str,
        function: str,
        judge: Callable[[Facts], Result],
        needs: str | None = None,
        reached: Callable[[Facts], bool] = lambda _: False,
        since_at_load: str | None = None,
        applies: Callable[[Facts], bool] = lambda _: True,
    ) -> None:
        self.id = id
        self.parent = parent
        self.title = title
        self.function = function
        self.judge = judge
        self.needs = needs
        self.reached = reached
        self.since_at_load = since_at_load or function
        self.applies = applies


# What an errno from /dev/cpu/N/msr means (arch/x86/kernel/msr.c).
_MSR_ERRORS = {
    "ENOENT": "no /dev/cpu/N/msr: the module msr is not there",
    "EACCES": "not permitted, run as root",
    "EPERM": "not permitted, needs CAP_SYS_RAWIO",
    "ENXIO": "the CPU is offline or has no MSRs",
    "EIO": "the CPU, or the hypervisor below, refuses the register",
}


def why_unread(errors: Mapping[int, str]) -> str:
    """ " (EPERM: not permitted, …)" for the errors of some CPUs; "" for none."""
    if not errors:
        return ""
    meaning = _MSR_ERRORS.get(next(iter(errors.values())))
    return f" ({fold(errors)}{': ' + meaning if meaning else ''})"
