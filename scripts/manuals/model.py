"""The commands and their arguments as data, read from the parser that --help comes from."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from kvmprobe.cli import parser
from kvmprobe.lab.kernels import DEBIAN
from kvmprobe.lab.scenarios import SCENARIOS
from kvmprobe.model.reasons import EXIT_STATUS, REASONS

# How a shell completes a value: one of `words`; some of them with commas between; one of them, a colon and a file; …
WORDS, LIST, TAGGED_FILE, FILE, FOLDER, PROCESS, FREE = "words list tagged file folder process free".split()
# What may follow `--`: any command line, or the arguments of a command of kvmprobe.
COMMAND_LINE, ARGUMENTS = "command", "arguments"

_KERNELS = tuple(kernel.suite for kernel in DEBIAN)
# By the name that --help has for a value. Others are numbers, or free text if an option takes them, or else files.
_BY_METAVAR: dict[str, tuple[str, tuple[str, ...]]] = {
    "FILE": (FILE, ()),
    "DIR": (FOLDER, ()),
    "VMLINUZ": (FILE, ()),
    "PID": (PROCESS, ()),
    "REASON": (WORDS, tuple(REASONS)),
    "VERDICT|REASON": (WORDS, (*(status.replace(" ", "-") for status in EXIT_STATUS), *REASONS)),
    "KERNEL": (WORDS, _KERNELS),
    "KERNEL,…": (LIST, _KERNELS),
    "FORMAT:FILE": (TAGGED_FILE, ()),  # the words are those of --format
    "SCENARIO,…": (LIST, ("help", *(scenario.name for scenario in SCENARIOS))),
}


class Argument:
    """An option, or an argument that stands by its place (without `strings`).

    `value`: the name of what it takes, None for a flag; `kind` and `words`: how that is completed. `many`: it may be
    given again. `required`: it may not be left out. `rivals`: options that cannot be given together with it.
    """

    def __init__(self, action: argparse.Action) -> None:
        self.strings = sorted(action.option_strings, key=len)
        self.help = (action.help or "") % {**vars(action), "prog": "kvmprobe"}
        self.many = action.nargs in ("*", "+") or isinstance(action, (argparse._CountAction, argparse._AppendAction))
        self.required = action.required
        self.rivals: set[str] = set()
        self.value = None if action.nargs == 0 else _metavar(action)
        self.kind, self.words = _kind(action, self.value) if self.value is not None else (FREE, ())

    def within(self, others: Iterable[Argument]) -> bool:
        """Whether one of `others` is described in the same words."""
        return any(self._shown() == other._shown() for other in others)

    def _shown(self) -> tuple[object, ...]:
        return self.strings, self.value, self.help


class Command:
    """A command: its `path` ("lab run"; "" is kvmprobe itself), texts, and what it takes."""

    def __init__(self, path: str, summary: str, parser: argparse.ArgumentParser) -> None:
        self.path = path
        self.summary = summary
        self.description = _filled(parser.description, parser)
        self.epilog = _filled(parser.epilog, parser)
        self.usage = _filled(parser.usage, parser)
        actions = [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]
        arguments = {action: Argument(action) for action in actions if action.help != argparse.SUPPRESS}
        for group in parser._mutually_exclusive_groups:
            for action in group._group_actions:
                others = [
                    string for other in group._group_actions if other is not action for string in other.option_strings
                ]
                arguments[action].rivals.update(others)
        self.options = [argument for argument in arguments.values() if argument.strings]
        formats = next((option.words for option in self.options if "--format" in option.strings), ())
        for option in self.options:
            if option.kind == TAGGED_FILE:
                option.words = formats
        self.places = [argument for argument in arguments.values() if not argument.strings]
        self.commands = [
            Command(f"{path} {choice.dest}".strip(), choice.help or "", action.choices[choice.dest])
            for action in parser._actions
            if isinstance(action, argparse._SubParsersAction)
            for choice in action._choices_actions
        ]
        self.after_dashes = self._after_dashes(parser)

    def _after_dashes(self, parser: argparse.ArgumentParser) -> tuple[str, str] | None:
        """What may follow `--`, by the usage: a kind, and the command whose arguments they are."""
        if "-- COMMAND" in self.usage:
            return COMMAND_LINE, ""
        if "-- ARGUMENT" in self.usage:
            return ARGUMENTS, parser.get_default("what").name
        return None

    @property
    def name(self) -> str:
        return f"kvmprobe {self.path}".strip()

    def all(self) -> Iterator[Command]:
        """This command and those below it."""
        yield self
        for command in self.commands:
            yield from command.all()


def read() -> Command:
    """kvmprobe's whole command line."""
    return Command("", "", parser.parser())


def default(top: Command) -> Command:
    """The command that runs where none is named."""
    return next(command for command in top.commands if command.path == parser.DEFAULT)


def _metavar(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    return "|".join(map(str, action.choices)) if action.choices else action.dest.upper()


def _kind(action: argparse.Action, value: str) -> tuple[str, tuple[str, ...]]:
    if action.choices is not None:
        return WORDS, tuple(map(str, action.choices))
    if value in _BY_METAVAR:
        return _BY_METAVAR[value]
    return (FREE, ()) if action.option_strings else (FILE, ())


def _filled(text: str | None, parser: argparse.ArgumentParser) -> str:
    return (text or "").replace("%(prog)s", parser.prog)
