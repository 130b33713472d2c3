"""The parts of the manual page that follow from the parser of the command line, as Markdown."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator

from kvmprobe.cli import parser as command_line
from scripts.generators.markdown_to_man import escape

Commands = dict[str, argparse.ArgumentParser]

# What is literal in a text: options and files.
_LITERAL = re.compile(r"(?<![\w/-])(--?[A-Za-z][a-z-]*|/(?:dev|proc|sys|etc)/[\w/.-]*\w)")
# A line of an epilog's table: a term, two blanks or more, its meaning.
_ROW = re.compile(r"  (\S+(?: \S+)*)  +(\S.*)")


def commands(parser: argparse.ArgumentParser, path: str = "") -> Commands:
    """The parsers of all commands below `parser`, by their words ("lab run"), in the order of --help."""
    found: Commands = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                found[f"{path}{name}"] = below
                found.update(commands(below, f"{path}{name} "))
    return found


class ParserText:
    """Writes the parts from one parser: each method is a part."""

    def __init__(self) -> None:
        self._top = command_line.parser()
        self._commands = commands(self._top)
        self._common = self._find_common()

    def synopsis(self) -> str:
        """One line per command that runs, and one for the options of kvmprobe itself."""
        lines = [_usage(path, parser) for path, parser in self._commands.items() if not _is_group(parser)]
        own = " | ".join(f"**{string}**" for action in _options(self._top) for string in action.option_strings)
        return "\\\n".join([*lines, f"**kvmprobe** {own}"])

    def commands(self) -> str:
        """A section per command: description, arguments, epilog."""
        return "\n\n".join(part for path in self._commands for part in self._command(path))

    def options(self) -> str:
        """The options of kvmprobe itself, and those that several commands describe in the same words."""
        own = map(_definition, _options(self._top))
        return "\n\n".join([*own, "Options of every command that lists them above:", *self._common.values()])

    def exit_status(self) -> str:
        """What --help shows of the exit status."""
        text = (self._top.epilog or "").partition("exit status:\n")[2].partition("\n\n")[0]
        return "\n\n".join(_laid_out(text))

    def _command(self, path: str) -> Iterator[str]:
        parser = self._commands[path]
        yield f"## kvmprobe {path}"
        yield _literal(_filled(parser.description, parser))
        if _is_group(parser):
            return
        arguments = {action: _definition(action) for action in parser._actions}
        described = [text for text in arguments.values() if text not in self._common.values()]
        yield from described
        common = [max(action.option_strings, key=len) for action, text in arguments.items() if text not in described]
        if common:
            yield f"{'Also' if described else 'Options'}: {', '.join(f'`{name}`' for name in common)}."
        yield from _laid_out(_filled(parser.epilog, parser))

    def _find_common(self) -> dict[str, str]:
        """Definitions that several commands share, by option. Of two for one option, the more frequent."""
        definitions = [
            (_definition(action), max(action.option_strings, key=len))
            for parser in self._commands.values()
            if not _is_group(parser)
            for action in _options(parser)
        ]
        common: dict[str, str] = {}
        for (text, option), count in Counter(definitions).most_common():
            if count > 1:
                common.setdefault(option, text)
        return {option: common[option] for _, option in definitions if option in common}


def _is_group(parser: argparse.ArgumentParser) -> bool:
    return any(isinstance(action, argparse._SubParsersAction) for action in parser._actions)


def _options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.option_strings]


def _usage(path: str, parser: argparse.ArgumentParser) -> str:
    """One line in which all options are one word."""
    if parser.usage:
        rest = _filled(parser.usage, parser).removeprefix(f"kvmprobe {path}").strip()
        return f"**kvmprobe {path}** " + re.sub(r"\b(option|[A-Z]{2,})\b", r"*\1*", rest)
    name = f"**kvmprobe** [**{path}**]" if path == command_line.DEFAULT else f"**kvmprobe {path}**"
    places = [_place(action) for action in parser._actions if not action.option_strings]
    return " ".join([name, "[*option* ...]", *places])


def _place(action: argparse.Action) -> str:
    name = f"*{_value(action)}*" + (" ..." if action.nargs in ("*", "+") else "")
    return f"[{name}]" if action.nargs in ("?", "*") else name


def _definition(action: argparse.Action) -> str:
    """An option or argument and its help, as one item of a definition list."""
    value = f"*{escape(_value(action))}*"
    tags = [value]
    if action.option_strings:
        takes = action.nargs != 0
        tags = [
            f"**{string}**" + (("=" if string.startswith("--") else " ") + value if takes else "")
            for string in sorted(action.option_strings, key=len)
        ]
    text = (action.help or "") % {**vars(action), "prog": "kvmprobe"}
    return f"{', '.join(tags)}\n:   {_literal(text)}"


def _value(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    return "|".join(map(str, action.choices)) if action.choices else action.dest.upper()


def _laid_out(text: str) -> Iterator[str]:
    """The paragraphs of an epilog; lines of a table become a definition list."""
    prose: list[str] = []
    for line in [*text.splitlines(), ""]:
        row = _ROW.fullmatch(line)
        if prose and (row or not line):
            yield _literal("\n".join(prose))
            prose.clear()
        if row:
            yield f"**{escape(row[1])}**\n:   {_literal(row[2])}"
        elif line:
            prose.append(line.strip())


def _literal(text: str) -> str:
    return _LITERAL.sub(r"`\1`", escape(text))


def _filled(text: str | None, parser: argparse.ArgumentParser) -> str:
    return (text or "").replace("%(prog)s", parser.prog)
