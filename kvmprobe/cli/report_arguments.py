"""The arguments of every command that writes a result: format, file, volume."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats import REPORT_FORMATS, RESULT_FORMATS
from kvmprobe.model import times

if TYPE_CHECKING:
    import argparse


_NAGIOS = """\
With --format nagios the exit status is a Nagios plugin's: 0 OK (confirmed, not
applicable), 1 WARNING (confirmed, but a check warns), 2 CRITICAL (failed), 3
UNKNOWN (inconclusive, and whatever goes wrong, which is said on standard
output).
"""


def add_arguments(
    parser: argparse.ArgumentParser,
    verbose: str = "every CPU and all that was seen",
    quiet: str = "the verdict's line alone",
    names: Iterable[str] = RESULT_FORMATS,
) -> None:
    """The arguments of every command that gives a result; `verbose` and `quiet`: what -v and -q give, in text."""
    add_format(parser, names)
    parser.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("-v", "--verbose", action="count", default=0, help=f"text: {verbose}")
    volume.add_argument("-q", "--quiet", action="store_true", help=f"text: {quiet}")


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of every command that gives one report."""
    add_arguments(parser, names=REPORT_FORMATS)
    parser.epilog = f"{parser.epilog or ''}{_NAGIOS}"
    parser.add_argument(
        "--also",
        metavar="FORMAT:FILE",
        action="append",
        default=[],
        help="write the same report to FILE in another format, too; may be given many times",
    )


def is_for_an_agent(arguments: Sequence[str]) -> bool:
    """Whether they ask for --format nagios, be they wrong otherwise: then also complaints are for the agent that reads
    standard output, and an exit status of 0 to 3."""
    chosen = ""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    for argument, following in zip(own, [*own[1:], ""]):
        name, equals, value = argument.partition("=")
        if len(name) > 2 and "--format".startswith(name):  # argparse takes the beginning of an option for it
            chosen = value if equals else following
        elif len(name) > 2 and "--json".startswith(name):
            chosen = "json"
    return chosen == "nagios"


def add_format(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """How the result is written, and where."""
    choices = tuple(names)  # too many for the usage's line
    text = f"how the result is written: {', '.join(choices)} (text)"
    parser.add_argument("--format", choices=choices, metavar="FORMAT", default="text", help=text)
    parser.add_argument(
        "--output", "-o", metavar="FILE", help="write the result to FILE: all of it or nothing; - is standard output"
    )


def duration(text: str) -> int:
    """The value of an option such as --max-age, in seconds; argparse reports what is wrong with it."""
    from argparse import ArgumentTypeError

    try:
        return times.parse_duration(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
