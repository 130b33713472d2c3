"""What one condition of SEV is: a question to the evidence, and what to do where it is not met."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.causes.cause import Cause, Found, hint_of
from kvmprobe.judge.causes.quotes import in_vm, is_built_in
from kvmprobe.judge.causes.steps import FIRMWARE_SETUP, OUTSIDE
from kvmprobe.judge.check_result import FAIL, PASS, UNKNOWN
from kvmprobe.judge.facts import Facts

if TYPE_CHECKING:
    from typing import Callable

SEV, SEV_ES, SEV_SNP = "sev", "sev-es", "sev-snp"
LEVELS = (SEV, SEV_ES, SEV_SNP)  # each needs the ones before it


_IN_VM = (
    "This host is a VM, whose firmware's setup does not decide about SEV.",
    f"Use bare metal. {OUTSIDE} whether it can give this VM SEV.",
)


class StepAnswer:
    """Whether a condition is met: `status` is PASS, FAIL or UNKNOWN.

    `because`: the evidence that shows a failure, quoted. `words`, `steps`: as in Found.
    """

    def __init__(
        self,
        status: str,
        message: str,
        because: list[str] | None = None,
        steps: tuple[str, ...] | None = None,
        **words: str,
    ) -> None:
        self.status = status
        self.message = message
        self.because = because or []
        self.steps = steps
        self.words = words


def met(message: str) -> StepAnswer:
    """The condition is met."""
    return StepAnswer(PASS, message)


def unknown(message: str) -> StepAnswer:
    """The evidence does not show whether the condition is met."""
    return StepAnswer(UNKNOWN, message)


def failed(message: str, because: list[str], steps: tuple[str, ...] | None = None, **words: str) -> StepAnswer:
    """The condition is not met; `because` shows it."""
    return StepAnswer(FAIL, message, because, steps, **words)


class SevStep:
    """A row of the chain of conditions.

    `name`: of the cause that it is where it fails; consumers rely on it. `levels`: those that need the condition.
    `when`: what a failure means, for `explain`. `kernel`: the function that has the condition. `ask`: the question.
    `steps`, `usual`: as in Cause. `beats_kvm`: KVM offers a level although this condition is not met, and a guest of
    that level cannot start. `is_last_resort`: it decides only where every other condition is met. `built_in`: what to
    do where kvm_amd is built into the kernel, so that nothing can load it again.
    """

    def __init__(
        self,
        name: str,
        levels: tuple[str, ...],
        when: str,
        kernel: str,
        ask: Callable[[Facts], StepAnswer],
        steps: tuple[str, ...],
        usual: dict[str, str] | None = None,
        beats_kvm: bool = False,
        is_last_resort: bool = False,
        built_in: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.levels = levels
        self.kernel = kernel
        self.ask = ask
        self.beats_kvm = beats_kvm
        self.is_last_resort = is_last_resort
        self.built_in = built_in
        self.cause = Cause(name, levels, when, lambda _: None, steps, usual)

    def hint(self, answer: StepAnswer, facts: Facts) -> str:
        """What to do on this host."""
        steps = answer.steps or self.cause.steps
        if FIRMWARE_SETUP[-1] in steps and in_vm(facts):
            steps = _IN_VM
        elif self.built_in and is_built_in(facts, "kvm_amd"):
            steps = self.built_in
        return hint_of(self.cause, Found([], steps, **answer.words), facts)
