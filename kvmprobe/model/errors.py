"""Exit statuses and the one exception that ends the program with a clear line.

The numbers are promised to the outside: fleets and kselftest read them.
"""

from __future__ import annotations

EXIT_CONFIRMED = 0
EXIT_FAILED = 1
EXIT_INCONCLUSIVE = 3
EXIT_NOT_APPLICABLE = 4
EXIT_USAGE = 64  # never 2, argparse's own: kselftest would read it as an expected failure
EXIT_DATA = 65
EXIT_SOFTWARE = 70


class Problem(Exception):
    """A problem that ends the command: `message` has what, where and why, `hint` what to do.

    `exit_status`: the exit status of the process.
    """

    exit_status = EXIT_INCONCLUSIVE

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageProblem(Problem):
    """The arguments are wrong."""

    exit_status = EXIT_USAGE


class DataProblem(Problem):
    """A file that the user named is not what it should be."""

    exit_status = EXIT_DATA


class Interrupted(BaseException):
    """The signal `signum` asked the program to end. No Exception, so that no `except Exception` catches it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum
