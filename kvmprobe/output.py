"""Where the result goes: standard output, or a file that is either the old one or the whole new one."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterable

from kvmprobe import TYPE_CHECKING
from kvmprobe.errors import Problem, UsageProblem
from kvmprobe.formats import REPORT_FORMATS, RESULT_FORMATS

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


_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


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


def add_format(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """How the result is written, and where."""
    parser.add_argument("--format", choices=tuple(names), default="text", help="how the result is written (text)")
    parser.add_argument("--output", "-o", metavar="FILE", help="write the result to FILE (beside it, then renamed)")


def check_target(path: str) -> None:
    """Raises UsageProblem, before any work is done, where `path` can never be written."""
    if not path:
        raise UsageProblem("--output: an empty name", "Name a file.")
    try:
        folder = os.path.dirname(os.path.realpath(path))
    except OSError as error:
        raise UsageProblem(f"--output {path}: {error.strerror}: the current folder", "Give a full path.") from error
    if os.path.isdir(path):
        raise UsageProblem(f"--output {path}: is a folder", "Name a file.")
    if not os.path.isdir(folder):
        raise UsageProblem(f"--output {path}: there is no folder {folder}", "Make the folder first.")
    if not os.access(path if _is_special(path) else folder, os.W_OK):
        raise UsageProblem(f"--output {path}: not permitted to write there", "Choose another folder or user.")


def write(text: str, path: str | None) -> None:
    """Writes the result to `path`, or to standard output. Raises Problem when it cannot be written."""
    if path in _STDOUT:
        path = None  # opened anew, it would be written from its beginning
    try:
        if path is None:
            if sys.stdout is None:
                raise OSError(errno.EBADF, "it is closed")
            sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
            sys.stdout.write(text)
            sys.stdout.flush()
        elif _is_special(path):
            with open(path, "a", encoding="utf-8") as file:
                file.write(text)
        else:
            _replace(os.path.realpath(path), text)
    except BrokenPipeError:
        # The reader has seen enough (kvmprobe | head). Python's own flush at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise Problem(f"the result cannot be written to {path or 'standard output'}: {error.strerror}") from error


def wants_colour() -> bool:
    """Whether standard output is a terminal that may be coloured."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return sys.stdout is not None and sys.stdout.isatty()


def _is_special(path: str) -> bool:
    """A device or pipe is written to, never replaced; and /dev/fd/3, whatever it stands for."""
    if path.startswith(("/dev/", "/proc/")):
        return True
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def _replace(path: str, text: str) -> None:
    """Written beside and renamed; a file that is there keeps its mode."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        mode = None
    beside = f"{path}.{os.getpid()}.tmp"
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(beside, mode)
        os.rename(beside, path)
    except BaseException:
        try:
            os.unlink(beside)
        except FileNotFoundError:
            pass
        raise
