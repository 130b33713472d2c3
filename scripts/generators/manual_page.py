"""The manual page, in man(7), plain ASCII: for man-db with groff and for mandoc."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from kvmprobe import __version__
from kvmprobe.cli.parser import DEFAULT
from kvmprobe.model.reasons import EXIT_STATUS, REASONS
from manuals import texts
from manuals.model import Argument, Command

SECTION = "8"  # a command of system administration, usually run as root, as lspci(8) and turbostat(8) are
_NAME = "show from the registers whether KVM can use AMD SVM, and why not"

_ROFF = {
    "\\": r"\e",
    "-": r"\-",  # else groff makes a typographic hyphen of it, which nobody can search for or paste
    "'": r"\(aq",
    "`": r"\(ga",
    "^": r"\(ha",
    "~": r"\(ti",
    "\u2026": "...",
    "\u2192": r"\(->",
}
_ROW = re.compile(r"^  (\S+(?: \S+)*)  +(\S.*)$", re.MULTILINE)
# What is set bold in a text: options and files.
_LITERAL = re.compile(r"(?<![\w/-])(--?[a-z][a-z-]*|/(?:dev|proc|sys|etc)/[\w/.-]*\w)")


def render(top: Command, date: str) -> str:
    """The page; `date` is YYYY-MM-DD or empty."""
    shared = _shared(top)
    lines = [
        r".\" Made by scripts/manual, from the same data as kvmprobe --help and kvmprobe explain.",
        rf'.TH KVMPROBE {SECTION} "{date}" "kvmprobe {__version__}" "System Manager\(aqs Manual"',
        ".nh",  # names of options, reasons and functions are not to be broken
        ".ad l",
        ".SH NAME",
        rf"kvmprobe \- {_NAME}",
        ".SH SYNOPSIS",
        *_synopsis(top),
        ".SH DESCRIPTION",
        *_prose(texts.DESCRIPTION),
        ".SH COMMANDS",
        *(line for command in top.commands for line in _command(command, shared)),
        ".SH OPTIONS",
        *_prose("Of kvmprobe without a command:"),
        *(line for option in top.options for line in _argument(option)),
        ".PP",
        *_prose("Of every command that names them above:"),
        *(line for option in shared for line in _argument(option)),
        ".SH EXIT STATUS",
        *_prose("Unless a command says otherwise:"),
        *_laid_out(top.epilog.split("\n\n")[0].replace("exit status:\n", "")),
        ".SH REASONS",
        *_prose("Why a verdict is what it is. The names are stable, and more may come."),
        *_reasons(),
        ".SH FILES",
        *_items(texts.FILES),
        ".SH ENVIRONMENT",
        *_items(texts.ENVIRONMENT),
        ".SH EXAMPLES",
        *_examples(),
        ".SH SEE ALSO",
        ",\n".join(rf"\fB{_escape(name)}\fR({section})" for name, section in texts.SEE_ALSO),
        ".PP",
        *_prose(texts.BOOKS),
    ]
    return "\n".join(lines) + "\n"


def _shared(group: Command, known: Sequence[Argument] = ()) -> list[Argument]:
    """Options that several commands of `group` describe in the same words: they are described once.

    Where there are two by one name, the one that more commands have.
    """
    members = [[option for below in command.all() for option in below.options] for command in group.commands]
    users = {option: sum(option.within(others) for others in members) for own in members for option in own}
    found: list[Argument] = []
    for option in sorted(users, key=lambda option: -users[option]):
        names = {string for other in found for string in other.strings}
        if users[option] > 1 and not option.within(known) and not names.intersection(option.strings):
            found.append(option)
    return sorted(found, key=list(users).index)


def _synopsis(top: Command) -> Iterator[str]:
    for command in top.all():
        if not command.commands:
            yield _usage(command)
            yield ".br"
    strings = [string for option in top.options for string in option.strings]
    yield r"\fBkvmprobe\fR " + " | ".join(rf"\fB{_escape(string)}\fR" for string in strings)


def _usage(command: Command) -> str:
    """As in --help, where all options are but a word."""
    if command.usage:
        rest = _escape(command.usage[len(command.name) :].strip())
        return rf"\fB{_escape(command.name)}\fR " + re.sub(r"\b(option|[A-Z]{2,})\b", r"\\fI\1\\fR", rest)
    name = rf"\fBkvmprobe\fR [\fB{DEFAULT}\fR]" if command.path == DEFAULT else rf"\fB{_escape(command.name)}\fR"
    return " ".join([name, r"[\fIoption\fR ...]", *map(_place, command.places)])


def _place(place: Argument) -> str:
    name = rf"\fI{_escape(place.value or '')}\fR" + (" ..." if place.many else "")
    return name if place.required else f"[{name}]"


def _command(command: Command, shared: Sequence[Argument]) -> Iterator[str]:
    yield f'.SS "{_escape(command.name)}"'
    yield from _prose(command.description or f"{command.summary[0].upper()}{command.summary[1:]}.")
    if command.commands:
        own = _shared(command, shared)
        yield ".PP"
        yield from _prose("Options of the commands below that name them:")
        yield from (line for option in own for line in _argument(option))
        for below in command.commands:
            yield from _command(below, [*shared, *own])
        return
    arguments = (*command.places, *command.options)
    described = [argument for argument in arguments if not argument.within(shared)]
    named = [argument for argument in arguments if argument.within(shared)]
    yield from (line for argument in described for line in _argument(argument))
    if named:
        yield ".PP"
        yield from _prose(f"{'Also' if described else 'Options'}: {', '.join(one.strings[-1] for one in named)}.")
    if command.epilog:
        yield from _laid_out(command.epilog)


def _argument(argument: Argument) -> Iterator[str]:
    value = rf"\fI{_escape(argument.value or '')}\fR"
    if not argument.strings:
        tag = value
    elif argument.value is None:
        tag = ", ".join(rf"\fB{_escape(string)}\fR" for string in argument.strings)
    else:
        tag = ", ".join(
            rf"\fB{_escape(string)}\fR{'=' if string.startswith('--') else ' '}{value}" for string in argument.strings
        )
    yield from _item(tag, argument.help)


def _reasons() -> Iterator[str]:
    for reason in REASONS.values():
        yield ".TP"
        yield rf"\fB{_escape(reason.name)}\fR ({reason.status}, {EXIT_STATUS[reason.status]})"
        yield from _prose(reason.when)
        for title, text in (("The kernel", reason.kernel), ("Its log", reason.log), ("What to do", reason.hint)):
            if text != "Nothing.":
                yield ".IP"
                yield rf"\fI{title}\fR:"
                yield from _prose(text)


def _examples() -> Iterator[str]:
    for number, (text, command) in enumerate(texts.EXAMPLES):
        if number:
            yield ".PP"
        yield from _prose(text)
        yield from (".PP", ".RS 4", ".nf", *(_escape(line) for line in command.splitlines()), ".fi", ".RE")


def _items(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    for tag, text in rows:
        yield from _item(rf"\fB{_escape(tag)}\fR", text)


def _item(tag: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield tag
    yield from _prose(text)


def _laid_out(text: str) -> Iterator[str]:
    """An epilog of --help: paragraphs, and lines that are set in with a term, two spaces or more, and its meaning."""
    for is_row, lines in itertools.groupby(text.splitlines(), lambda line: bool(_ROW.fullmatch(line))):
        if is_row:
            yield from _items(_ROW.findall("\n".join(lines)))
        else:
            yield ".PP"
            yield from _prose("\n".join(lines))


def _prose(text: str) -> Iterator[str]:
    """Paragraphs, of which the lines may be broken anew."""
    for number, paragraph in enumerate(filter(None, map(str.split, text.split("\n\n")))):
        if number:
            yield ".PP"
        marked = _LITERAL.split(" ".join(paragraph))  # every other part is literal
        roff = "".join(rf"\fB{_escape(part)}\fR" if at % 2 else _escape(part) for at, part in enumerate(marked))
        for line in textwrap.wrap(roff, 80, break_long_words=False, break_on_hyphens=False):
            yield rf"\&{line}" if line.startswith(".") else line


def _escape(text: str) -> str:
    return "".join(_ROFF.get(char) or (char if char.isascii() else rf"\[u{ord(char):04X}]") for char in text)
