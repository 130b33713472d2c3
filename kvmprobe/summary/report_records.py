"""From the bytes of reports to rows: the work of each process of a summary.

A verdict is always one of this version. The verdict that this same version has stored is taken as it is, since judging
is a pure function of the evidence; but it is only taken where judging would accept the evidence. All other reports are
judged again, which takes some times longer.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING, __version__
from kvmprobe.formats.row_values import Malformed, row_values
from kvmprobe.judge import SCHEMA, judge
from kvmprobe.model.errors import DataProblem
from kvmprobe.report.reading import LIMIT, open_in_folder, open_named, read_all
from kvmprobe.report.stored_report import (
    contradiction,
    evidence_of,
    follows_schema,
    is_too_deep,
    parse,
    requirements_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from kvmprobe.formats.host_row import RowValues
    from kvmprobe.judge.requirements.requirement import Requirement

    # Files, and whether they were found in a folder; or a block of one file: its name, the number of the first line,
    # whether the file has several records.
    Task = tuple[list[str], bool] | tuple[tuple[str, int, bool], bytes]
    Found = list[tuple[str, int, RowValues]]  # file, line (0: the whole file is one report), row
    Bad = list[tuple[str, int, str]]  # file, line, why it could not be read
    Batch = tuple[Found, Bad, int]  # and how many were judged again


# More records than _MANY, of less than _SHORTEST bytes on average, are not parsed one by one: a small .gz may have
# millions of "{}".
_MANY, _SHORTEST = 10_000, 500
START = b"\n{"  # where the next record begins: only the first "{" of an indented report is in the first column


class Reader:
    """Reads the records of a task. `judge_all`: also those with a verdict of this version. `with_details`: keep the
    messages of the checks and the registers, too. `requirements`: what is asked of all; None: what each report asked.
    """

    def __init__(self, judge_all: bool, with_details: bool, requirements: Sequence[Requirement] | None = None) -> None:
        self._judge_all = judge_all or requirements is not None
        self._requirements = requirements
        self._with_details = with_details
        self._same: dict[Any, Any] = {}

    def __call__(self, task: Task) -> Batch:
        """The rows of a task. It never raises for the content of a file."""
        found: Found = []
        bad: Bad = []
        judged = 0
        for file, line, text in _records(task):
            if isinstance(text, str):
                bad.append((file, line, text))
                continue
            try:
                row, is_new = self._row(text)
                judged += is_new
                found.append((file, line, row))
            except DataProblem as problem:
                bad.append((file, line, problem.message.partition(": ")[2]))
            except Malformed as error:
                bad.append((file, line, f"not a report of {SCHEMA}: {error}"))
        self._same.clear()
        return found, bad, judged

    def _row(self, text: bytes) -> tuple[RowValues, bool]:
        """The row of a record, and whether it was judged again."""
        data = parse(text, "")
        row = None if self._judge_all else self._stored_row(data)
        is_new = row is None
        if row is None:
            tool = data["tool"] if isinstance(data, dict) and "tool" in data else {"version": "unknown"}
            requirements = requirements_of(data, "") if self._requirements is None else self._requirements
            judged = {**judge(evidence_of(data, ""), requirements), "tool": tool}
            row = row_values(judged, self._with_details)
        name, taken_at, profile, details = row
        # Equal values are passed on, and kept, once.
        same = self._same.setdefault(profile, profile), self._same.setdefault(details, details)
        return (name, taken_at, *same), is_new

    def _stored_row(self, data: object) -> RowValues | None:
        """The row by the stored verdict, where this version has stored it; None where it has to be judged again.

        A verdict or check that this version does not know was changed by hand, or stored by a development version.
        """
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            return None
        tool = data.get("tool")
        if not isinstance(tool, dict) or (tool.get("name"), tool.get("version")) != ("kvmprobe", __version__):
            return None
        try:
            row = row_values(data, self._with_details)
        except Malformed:
            return None
        evidence = data["evidence"]
        # Where it is no evidence, judging it again gives the reason.
        if is_too_deep(data) or not follows_schema(evidence) or contradiction(evidence):
            return None
        return row


def _records(task: Task) -> Iterator[tuple[str, int, bytes | str]]:
    """Each record with its file and line; text instead of bytes is the reason why it could not be read."""
    if isinstance(task[1], bytes):
        (file, first, has_several), block = task
        yield from ((file, line, text) for line, text in _split(block, first, has_several))
        return
    files, in_folder = task
    for file in files:
        text = _read(file, in_folder)
        if isinstance(text, str):
            yield file, 0, text
        else:
            yield from ((file, line, record) for line, record in _split(text, 1, START in text))


def _split(block: bytes, line: int, has_several: bool) -> Iterator[tuple[int, bytes | str]]:
    number = block.count(START) + 1
    if number > _MANY and len(block) < number * _SHORTEST:
        yield line, f"{number:,} records in {len(block):,} bytes: these are not reports"
        return
    start = 0
    while start < len(block):
        end = block.find(START, start) + 1 or len(block)
        text = block[start:end]
        if not text.isspace():
            yield line if has_several else 0, text
        if has_several:
            line += text.count(b"\n")
        start = end


def _read(path: str, in_folder: bool) -> bytes | str:
    """The content of a file, or text with the reason why it could not be read."""
    try:
        text = read_all(open_in_folder(path) if in_folder else open_named(path), LIMIT)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError as error:
        return str(error)
    return text if text.strip() else "is empty"
