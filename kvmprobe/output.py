"""Where the result goes: standard output, or a file that is either the old one or the whole new one."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Iterable, Sequence

from kvmprobe import TYPE_CHECKING
from kvmprobe.errors import Problem, UsageProblem
from kvmprobe.formats import REPORT_FORMATS, RESULT_FORMATS
from kvmprobe.replace import find_special, open_folder, open_special, replace

if TYPE_CHECKING:
    import argparse


def clean(text: object) -> str:
    """A line with escapes in place of what cannot be printed.

    What evidence says goes to root's terminal and may come from elsewhere: no control characters, lone surrogates,
    marks that turn the direction of writing.
    """
    line = str(text)
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)


_NAGIOS = """\
With --format nagios the exit status is a Nagios plugin's: 0 OK (confirmed, not
applicable), 1 WARNING (confirmed, but a check warns), 2 CRITICAL (failed), 3
UNKNOWN (inconclusive, and whatever goes wrong, which is said on standard
output).
"""
_STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
_DESCRIPTOR = re.compile(r"/dev/std(in|out|err)|(/dev|/proc/(self|thread-self|[0-9]+))/fd/[0-9]+")  # the caller's own


def say(message: str, hint: str | None = None) -> None:
    """A line about the progress or a problem, to standard error, whether anybody listens or not."""
    try:
        if sys.stderr is not None:
            print("\n".join(map(clean, message.splitlines())), file=sys.stderr, flush=True)
            if hint:
                print(f"  {clean(hint)}", file=sys.stderr, flush=True)
    except OSError:
        pass


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


def check_target(path: str, option: str = "--output ") -> None:
    """Raises UsageProblem, before any work is done, where `path`, the value of `option`, can never be written."""
    name = f"{option}{path}"
    if not path:
        raise UsageProblem(f"{option.rstrip(' :')}: an empty name", "Name a file.")
    if path in _STDOUT:
        return
    try:
        folder = os.path.dirname(os.path.realpath(path))
    except OSError as error:
        raise UsageProblem(f"{name}: {error.strerror}: the current folder", "Give a full path.") from error
    if os.path.isdir(path) or path.endswith("/"):
        raise UsageProblem(f"{name}: is a folder", "Name a file.")
    if not os.path.isdir(folder):
        raise UsageProblem(f"{name}: there is no folder {folder}", "Make the folder first.")
    special = is_special(path)
    if not os.access(path if special else folder, os.W_OK):
        raise UsageProblem(f"{name}: not permitted to write there", "Choose another folder or user.")
    if _DESCRIPTOR.fullmatch(path):
        return
    try:
        os.close(find_special(path) if special else open_folder(path)[0])
    except OSError as error:
        raise UsageProblem(f"{name}: {error.strerror}", "Give a file's real path, in a folder of your own.") from error


def place(path: str | None) -> str | None:
    """The file that `path` leads to; None is standard output."""
    if path in _STDOUT:
        return None  # opened anew, it would be written from its beginning
    return path if path is None or is_special(path) else os.path.realpath(path)


def write(text: str, path: str | None, mode: int | None = None) -> None:
    """Writes the result to `path`, or to standard output. Raises Problem when it cannot be written.

    `mode`: what a file gets, whatever the umask is and whatever mode it had.
    """
    if path in _STDOUT:
        path = None
    try:
        if path is None:
            if sys.stdout is None:
                raise OSError(errno.EBADF, "it is closed")
            sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
            sys.stdout.write(text)
            sys.stdout.flush()
        elif is_special(path):
            with open(path if _DESCRIPTOR.fullmatch(path) else open_special(path), "a", encoding="utf-8") as file:
                file.write(text)
        else:
            replace(path, text, mode)
    except BrokenPipeError:
        # The reader has seen enough (kvmprobe | head). Python's own flush at exit must not complain either.
        if path is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise Problem(f"the result cannot be written to {path or 'standard output'}: {error.strerror}") from error


def wants_colour() -> bool:
    """Whether standard output is a terminal that may be coloured."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return sys.stdout is not None and sys.stdout.isatty()


def is_special(path: str) -> bool:
    """A device or pipe is written to, never replaced; and /dev/fd/3, whatever it stands for."""
    if _DESCRIPTOR.fullmatch(path):
        return True
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
