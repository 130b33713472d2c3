"""The option --require: its files, its list, its errors. Imported where it is given."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.requirements import demands
from kvmprobe.judge.requirements.demands import WrongDemand
from kvmprobe.model.errors import DataProblem, UsageProblem
from kvmprobe.model.printable import columns, joined

if TYPE_CHECKING:
    from kvmprobe.judge.requirements.requirement import Requirement

_LIMIT = 1 << 20  # bytes of a file
_FILE_HINT = "Give a file with one requirement per line."


def parse(text: str) -> list[Requirement]:
    """Return the requirements in "NAME,NAME>=N", or in the file of "@FILE"; none for "none".

    Raises UsageProblem where the text is wrong, DataProblem where the file is.
    """
    if text == "none":
        return []
    if text.startswith("@"):
        return _parse_file(text[1:])
    try:
        return demands.parse_list(text)
    except WrongDemand as wrong:
        raise UsageProblem(f"--require: {wrong.message}", wrong.hint) from None


def _parse_file(path: str) -> list[Requirement]:
    from kvmprobe.report.reading import open_named, read_all

    name = f"--require @{path}"
    if not path:
        raise UsageProblem("--require @: no name of a file", _FILE_HINT)
    try:
        return demands.parse_file(read_all(open_named(path), _LIMIT).decode("utf-8-sig"))
    except WrongDemand as wrong:
        raise DataProblem(f"{name}: {wrong.message}", wrong.hint) from None
    except OSError as error:
        raise DataProblem(f"{name}: cannot be read: {error.strerror}", _unreadable_hint(path)) from error
    except UnicodeDecodeError as error:
        raise DataProblem(f"{name}: is not text", _FILE_HINT) from error
    except ValueError as error:
        raise DataProblem(f"{name}: {error}", _FILE_HINT) from error


def _unreadable_hint(path: str) -> str:
    """What to do where no file has this name: it may be a file's name with requirements behind it."""
    file, comma, rest = path.partition(",")
    return f"Give --require twice: --require @{file} --require '{rest}'." if comma else _FILE_HINT


def combined(lists: list[list[Requirement]]) -> list[Requirement]:
    """Return the requirements of all --require, each once. Raises UsageProblem where two contradict each other."""
    try:
        return demands.combine(lists)
    except WrongDemand as wrong:
        raise UsageProblem(f"--require: {wrong.message}", wrong.hint) from None


def write_list() -> None:
    """Write all requirements, one line for each, to standard output. Raises Problem."""
    from kvmprobe.report import output

    output.write(joined(columns(demands.listing())), None)
