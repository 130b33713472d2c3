"""What a check is, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import cpu_names, few_groups, fold, group, text_of

if TYPE_CHECKING:
    from typing import Callable, TypeVar

    _T = TypeVar("_T")


PASS, FAIL, WARN, SKIP, UNKNOWN = "pass", "fail", "warn", "skip", "unknown"


class CpuResult:
    """One CPU's part in a check: a status, and a message about that CPU alone."""

    def __init__(self, status: str, message: str) -> None:
        self.status = status
        self.message = message


class Result:
    """What a check gives.

    `reason`: the verdict's reason (of reasons.py) where this check decides it; `hint`: in place of that reason's hint;
    `because`: the values in the evidence that show it, one line each; `by_cpu`: where the CPUs differ in what this
    check reads, one part for each CPU, else nothing; `cause`: of the verdict, on the result that decides it.
    """

    def __init__(
        self,
        status: str,
        message: str,
        reason: str | None = None,
        hint: str | None = None,
        because: Sequence[str] = (),
        by_cpu: Mapping[int, CpuResult] | None = None,
        cause: str | None = None,
    ) -> None:
        self.status = status
        self.message = message
        self.reason = reason
        self.hint = hint
        self.because = list(because)
        self.by_cpu = dict(by_cpu or {})
        self.cause: str | None = None


class Check:
    """One step of the kernel, or one thing that evidence can contradict.

    `functions`: the kernel's function that does this step and, where it has another name since 6.12 (on kernels that
    have enable_virt_at_load), that name; `parent`: the check it stands under in a tree of all checks.

    `needs`: the check that must not have failed before this one; `reached`: whether the evidence shows that the step
    was reached anyway. `applies`: whether the evidence has what the check reads; where not, the check is left out.

    `is_rule`: it is a rule about whether SVM can work; where the registers show SVM at work, its failure is a warning.
    `about_svm`: it reads what only CPUs of AMD and Hygon have, so it is skipped where the vendor failed.
    """

    def __init__(
        self,
        id: str,
        parent: str | None,
        title: str,
        functions: tuple[str, ...],
        judge: Callable[[Facts], Result],
        needs: str | None = None,
        reached: Callable[[Facts], bool] = lambda _: False,
        applies: Callable[[Facts], bool] = lambda _: True,
        is_rule: bool = False,
        about_svm: bool = False,
    ) -> None:
        self.id = id
        self.parent = parent
        self.title = title
        self.function = functions[0]
        self.since_at_load = functions[-1]
        self.judge = judge
        self.needs = needs
        self.reached = reached
        self.applies = applies
        self.is_rule = is_rule
        self.about_svm = about_svm


class Outcome:
    """A check that was applied to evidence: its result, and the check that failed before it where it was skipped."""

    def __init__(self, check: Check, result: Result, blocked_by: str | None = None) -> None:
        self.check = check
        self.result = result
        self.blocked_by = blocked_by


def by_cpu(values: Mapping[int, _T], judge: Callable[[int, _T], CpuResult]) -> dict[int, CpuResult]:
    """`judge` of each CPU and its value where the values differ; nothing where all CPUs have the same."""
    return {cpu: judge(cpu, value) for cpu, value in values.items()} if len(group(values)) > 1 else {}


def quote(values: Mapping[int, object], name: str, sign: str = " = ") -> list[str]:
    """["cpu0-1: VM_CR = 0x18"]: lines for `because`, one for each group of CPUs with the same value; see few_groups."""
    first, more = few_groups(group({cpu: text_of(value) for cpu, value in values.items()}))
    lines = [f"{cpu_names(cpus)}: {name}{sign}{value}" for value, cpus in first]
    return [*lines, f"{name}: {more}"] if more else lines


def bits(values: Mapping[int, bool | None]) -> dict[int, str]:
    """Bits by CPU; see text_of_bit."""
    return {cpu: text_of_bit(value) for cpu, value in values.items()}


def text_of_bit(value: bool | None) -> str:
    """A bit as manuals write it: "1", "0"; "unknown" for None."""
    return "unknown" if value is None else str(int(value))


# What an errno from /dev/cpu/N/msr means (arch/x86/kernel/msr.c).
_MSR_ERRORS = {
    "ENOENT": "no /dev/cpu/N/msr, the module msr is not loaded",
    "EACCES": "not permitted, root may read it",
    "EPERM": "not permitted, needs CAP_SYS_RAWIO",
    "ENXIO": "the CPU is offline or has no MSRs",
    "EIO": "the CPU, or the hypervisor below, refuses the register",
}


def why_unread(errors: Mapping[int, str]) -> str:
    """ " (EPERM: not permitted, ...)" for the errors of some CPUs; "" for none."""
    if not errors:
        return ""
    meaning = _MSR_ERRORS.get(next(iter(errors.values())))
    return f" ({fold(errors)}{': ' + meaning if meaning else ''})"
