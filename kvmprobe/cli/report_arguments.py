"""The arguments of every command that writes a result: its format, its file, how much it shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats import FORMATS, REPORT_FORMATS, RESULT_FORMATS, format_of_file
from kvmprobe.model import times
from kvmprobe.model.errors import UsageProblem

if TYPE_CHECKING:
    import argparse

    from kvmprobe.formats import Format
    from kvmprobe.judge.requirements.requirement import Requirement

_DEFAULT = "text"


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a command that writes one report. Not every one has --expect and --exit-status."""
    parser.set_defaults(expect=None, exit_status="verdict", require=[])
    add_arguments(parser, names=REPORT_FORMATS)
    parser.add_argument(
        "--also",
        metavar="FORMAT:FILE",
        action="append",
        default=[],
        help="write the report to FILE in another format, too (repeatable)",
    )


def add_arguments(
    parser: argparse.ArgumentParser,
    verbose: str = "show all checks; -vv: also every CPU, answer and log line",
    quiet: str = "show the verdict and what to do",
    names: Iterable[str] = RESULT_FORMATS,
) -> None:
    """Add the arguments of a command that writes a result in one of the formats `names`.

    `verbose`, `quiet`: what -v and -q do, for --help.
    """
    add_format(parser, names)
    parser.add_argument(
        "--json", action="store_const", const="json", dest="format", help="write the result as JSON (--format json)"
    )
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("-v", "--verbose", action="count", default=0, help=verbose)
    volume.add_argument("-q", "--quiet", action="store_true", help=f"{quiet}; report no progress")


def add_format(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Add --format, one of `names`, and --output. choose_format() completes what they parse."""
    choices = tuple(names)
    listed = f"{', '.join(choices[:-1])} or {choices[-1]}"
    text = f"write the result as {listed} (default: by the suffix of -o FILE, else {_DEFAULT})"
    parser.add_argument("--format", choices=choices, metavar="FORMAT", help=text)  # the usage line has no room for all
    text = "write the result to FILE, which is replaced atomically; - is standard output"
    parser.add_argument("-o", "--output", metavar="FILE", help=text)
    parser.set_defaults(choices=choices, quiet=False)


def add_exit_status(parser: argparse.ArgumentParser, usual: str = "verdict") -> None:
    """Add --exit-status. `usual`: what the exit status shows by default. main.py acts on it."""
    parser.add_argument(
        "--exit-status",
        choices=(usual, "bisect"),
        default=usual,
        help="bisect: end as 'git bisect run' reads it: 0 good, 1 bad, 125 skip the commit, 128 and more stop",
    )


def add_expect(parser: argparse.ArgumentParser) -> None:
    """Add --expect, of every command that gives a verdict."""
    parser.add_argument(
        "--expect", metavar="REASON", type=_reason, help="exit status 0 for this reason, 1 for another that is known"
    )


def add_require(parser: argparse.ArgumentParser, what: str = "exit status 0 only if the host also has this") -> None:
    """Add --require, of every command that judges. requirements_of() completes what it parses."""
    text = f"{what}, such as cpus>=64; @FILE: one per line; help: list all (repeatable)"
    parser.add_argument("--require", metavar="NAME,...", action="append", default=[], type=_requirements, help=text)


def _requirements(text: str) -> list[Requirement]:
    """Return what one --require asks. For "help", write the list of requirements and end, as --help does.

    Raises UsageProblem, DataProblem.
    """
    from kvmprobe.cli import require_option

    if text == "help":
        require_option.write_list()
        raise SystemExit(0)
    return require_option.parse(text)


def requirements_of(options: argparse.Namespace) -> list[Requirement] | None:
    """Return what all --require together ask, None without one. Raises UsageProblem where no host can meet them all."""
    if not options.require:
        return None
    from kvmprobe.cli import require_option

    return require_option.combined(options.require)


def _reason(name: str) -> str:
    """Return a reason of a verdict, in its newest name. Raises argparse.ArgumentTypeError."""
    from argparse import ArgumentTypeError
    from difflib import get_close_matches

    from kvmprobe.model.reasons import REASONS, RENAMED_REASONS

    reason = RENAMED_REASONS.get(name, name)
    if reason not in REASONS:
        close = get_close_matches(name, REASONS, 1)
        more = f"; did you mean {close[0]}?" if close else "; 'kvmprobe explain' lists the reasons"
        raise ArgumentTypeError(f"{name!r} is no reason of a verdict{more}")
    return reason


def add_no_load(parser: argparse.ArgumentParser) -> None:
    """Add --no-load, of every command that takes evidence."""
    parser.add_argument("--no-load", action="store_true", help="do not load the modules msr and cpuid")


def add_nested(parser: argparse.ArgumentParser) -> None:
    """Add --nested, of every command that runs the guest."""
    text = "run a guest in the guest, too, which tests nested virtualization; a defect of it can crash the host"
    parser.add_argument("--nested", action="store_true", help=text)


def choose_format(options: argparse.Namespace) -> None:
    """Set options.format where no argument did: by the name of --output, else text. Raises UsageProblem.

    A name that asks for a format that the command does not have is refused. Text in a file report.html would help
    nobody.
    """
    if options.format is not None:
        return
    wanted = format_of_file(options.output or "")
    if wanted is None:
        options.format = _DEFAULT
        return
    if wanted.name not in options.choices:
        hint = f"Name the format with --format: {', '.join(options.choices)}."
        raise UsageProblem(f"--output {options.output}: this command cannot write {wanted.name}", hint)
    options.format = wanted.name


def _own(arguments: Sequence[str]) -> Sequence[str]:
    """Return the command-line arguments before "--": what follows is another program's."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def is_for_bisect(arguments: Sequence[str]) -> bool:
    """Return whether command-line arguments ask for --exit-status bisect. They may be wrong otherwise."""
    own = _own(arguments)
    return "--exit-status=bisect" in own or ("--exit-status", "bisect") in zip(own, own[1:])


def agents_format(arguments: Sequence[str]) -> Format | None:
    """Return the format that command-line arguments name, if it is one that monitoring agents read.

    The arguments may be wrong otherwise. An agent that reads standard output must find also that there.
    """
    if is_for_bisect(arguments):
        return None
    name = ""
    own = _own(arguments)
    for argument, following in zip(own, [*own[1:], ""]):
        option, equals, value = argument.partition("=")
        if option == "--format":
            name = value if equals else following
        elif argument == "--json":
            name = "json"
    return FORMATS[name] if name in FORMATS and FORMATS[name].for_agents else None


def duration(text: str) -> int:
    """Return the seconds of an option such as --max-age 26h; argparse reports what is wrong with it."""
    from argparse import ArgumentTypeError

    try:
        return times.parse_duration(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
