"""What a cause is: a question to the evidence, and what to do where the answer is yes."""

from __future__ import annotations

import re

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
    sentences and commands; a command begins with ROOT or ANYONE. {words} are those of Found. `usual`: words for
    `explain`, in place of their names in capitals.
    """

    def __init__(
        self,
        name: str,
        reasons: tuple[str, ...],
        when: str,
        ask: Callable[[Facts], Found | None],
        steps: tuple[str, ...],
        usual: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.reasons = reasons
        self.when = when
        self.ask = ask
        self.steps = steps
        self.usual = usual or {}

    def what_to_do(self) -> str:
        """The steps for `explain`: a hint, with words in capitals where a host has its own."""
        return _hint(self.steps, _Capitals(self.usual), "")


def hint_of(cause: Cause, found: Found, facts: Facts) -> str:
    """The hint of a cause for this host: one sentence for each step, commands in backticks, with sudo for a user."""
    sudo = "" if facts.evidence["host"]["euid"] == 0 else "sudo "
    return _hint(found.steps or cause.steps, found.words, sudo)


class _Capitals(dict):  # type: ignore[type-arg]
    def __missing__(self, name: str) -> str:
        return name.upper()


class _Safe(dict):  # type: ignore[type-arg]
    """Words of a step, made safe: evidence of another machine could have anything in them, and people copy commands."""

    def __init__(self, words: dict[str, str], is_command: bool) -> None:
        super().__init__(words)
        self._words = words
        self._is_command = is_command

    def __getitem__(self, name: str) -> str:
        word = self._words[name]
        return safe(word) if self._is_command else word.replace("`", "'")  # in a hint, backticks begin a command


def safe(word: str) -> str:
    """A word for a command: characters that a shell takes for more than text become "?"."""
    return re.sub(r"[^A-Za-z0-9_./@:+,=% -]", "?", word)


def _hint(steps: tuple[str, ...], words: dict[str, str], sudo: str) -> str:
    hint = ""
    for step in steps:
        line = step.format_map(_Safe(words, step.startswith((ROOT, ANYONE))))
        command = line[2:] if line.startswith((ROOT, ANYONE)) else ""
        if command:
            joint = "," if hint.endswith("`") else ""
            hint += f"{joint} `{sudo if line.startswith(ROOT) else ''}{command}`"
        elif line.strip() and not hint:
            hint = line
        elif line.strip():
            # A sentence ends after its commands, unless the next step goes on with it.
            ends = "" if hint.endswith((".", ":")) else ";" if line[0].islower() else "."
            hint += f"{ends} {line}"
    return hint if hint.endswith(".") else f"{hint}."
