"""Writes a result to standard output or to a file, which is replaced as a whole."""

from __future__ import annotations

import errno
import os
import sys

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats import FORMATS
from kvmprobe.host.null_device import open_null
from kvmprobe.model.errors import Problem
from kvmprobe.model.printable import ascii_only
from kvmprobe.report import STANDARD_OUTPUT, terminal
from kvmprobe.report.messages import say

if TYPE_CHECKING:
    import argparse


def write(text: str, path: str | None, mode: int | None = None) -> None:
    """Write `text` to `path`, or to standard output (None). Raises Problem where that fails.

    `mode`: the permissions of a file, whatever the umask is and whatever they were. A file is UTF-8; standard output
    gets ASCII where the locale has no more. (What the formats for programs give is ASCII anyway.)
    """
    if path in STANDARD_OUTPUT:
        path = None
    try:
        if path is None:
            _write_standard_output(text)
        else:
            _write_file(text, path, mode)
    except BrokenPipeError:
        # The reader has read enough (kvmprobe | head). Python's own flush at exit must not complain either.
        if path is None:
            os.dup2(open_null(), sys.stdout.fileno())
    except OSError as error:
        raise Problem(f"cannot write the result to {path or 'standard output'}: {error.strerror}") from error


def write_result(text: str, options: argparse.Namespace) -> None:
    """Write a command's result in options.format to options.output. Raises Problem where that fails.

    A file is reported on standard error, with its format: that may follow from the file's name. Not with -q.
    """
    write(text, options.output, FORMATS[options.format].file_mode)
    report_written(options)


def report_written(options: argparse.Namespace) -> None:
    """Report that --output was written, where it is a file and nobody asked for less output."""
    path = options.output
    if path is None or path in STANDARD_OUTPUT or options.quiet:
        return
    from kvmprobe.report.targets import is_special

    if not is_special(path):
        say(f"kvmprobe: wrote {path} ({options.format})")


def _write_file(text: str, path: str, mode: int | None) -> None:
    from kvmprobe.report.safe_write import open_special, replace_file  # a check writes to no file, usually
    from kvmprobe.report.targets import is_descriptor, is_special

    if is_special(path):
        with open(path if is_descriptor(path) else open_special(path), "a", encoding="utf-8") as file:
            file.write(text)
    else:
        replace_file(path, text, mode)


def _write_standard_output(text: str) -> None:
    if sys.stdout is None:
        raise OSError(errno.EBADF, "it is closed")
    if terminal.is_ascii() or sys.stdout.encoding.lower() != "utf-8":
        text = ascii_only(text)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.stdout.write(text)
    sys.stdout.flush()
