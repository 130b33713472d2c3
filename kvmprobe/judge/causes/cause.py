"""What a cause is: a question to the evidence, and what to do where the answer is yes."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.facts import Facts

if TYPE_CHECKING:
    from typing import Callable

ROOT, ANYONE = "# ", "$ "  # how a step begins that is a command: for root on this host, for anyone or elsewhere


class Found:
    """The answer yes.

    `because`: the evidence that shows the cause, quoted, beside what the check that decided quotes itself. `words`:
    what the steps leave open, by name; a step that becomes empty is left out. `steps`: in place of the cause's own
    steps, where the case needs others.
    """

    def __init__(self, because: list[str], steps: tuple[str, ...] | None = None, **words: str) -> None:
        self.because = because
        self.steps = steps
        self.words = words


class Cause:
    """A row of the table of causes.

    `name`: consumers rely on it. `reasons`: those that this can be the cause of. `when`: what it means, for `explain`.
    `ask`: the question; it returns Found, or None where the evidence does not show this cause. `steps`: what to do,
    sentences and commands; a command begins with ROOT or ANYONE. {words} are those of Found.
    """

    def __init__(
        self,
        name: str,
        reasons: tuple[str, ...],
        when: str,
        ask: Callable[[Facts], Found | None],
        steps: tuple[str, ...],
    ) -> None:
        self.name = name
        self.reasons = reasons
        self.when = when
        self.ask = ask
        self.steps = steps

    def what_to_do(self) -> str:
        """The steps for `explain`: a hint, with words in capitals in place of what a host would fill in."""
        return _hint(self.steps, _Capitals(), "")


def hint_of(cause: Cause, found: Found, facts: Facts) -> str:
    """The hint of a cause for this host: one sentence for each step, commands in backticks, with sudo for a user."""
    sudo = "" if facts.evidence["host"]["euid"] == 0 else "sudo "
    return _hint(found.steps or cause.steps, found.words, sudo)


class _Capitals(dict):  # type: ignore[type-arg]
    def __missing__(self, name: str) -> str:
        return name.upper()


def _hint(steps: tuple[str, ...], words: dict[str, str], sudo: str) -> str:
    hint = ""
    for step in steps:
        line = step.format_map(words)
        command = line[2:] if line.startswith((ROOT, ANYONE)) else ""
        if command:
            joint = "," if hint.endswith("`") else ""
            hint += f"{joint} `{sudo if line.startswith(ROOT) else ''}{command}`"
        elif line.strip() and not hint:
            hint = line
        elif line.strip():
            # A sentence ends after its commands, unless the next step goes on with it.
            ends = "" if hint.endswith(".") else ";" if line[0].islower() else "."
            hint += f"{ends} {line}"
    return hint if hint.endswith(".") else f"{hint}."
