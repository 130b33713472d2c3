"""From bytes to reports in short: what runs in each process of a summary.

A report's verdict is always this version's. One that this same version has stored is taken as it stands, since judging
is a pure function of the evidence; any other is held to the schema and judged anew, which takes some ten times longer.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING, __version__
from kvmprobe.formats.host_row import Malformed, digest
from kvmprobe.judge import SCHEMA, judge
from kvmprobe.model.errors import DataProblem
from kvmprobe.model.json_schema import report_schema
from kvmprobe.report.reading import read_regular
from kvmprobe.report.stored_report import evidence_of, parse

if TYPE_CHECKING:
    from typing import Any

    from kvmprobe.formats.host_row import Digest
    from kvmprobe.model.json_schema import Schema

    # Files, or a part of one: its name, the number of its first line, whether it has several, and what is in it.
    Task = tuple[list[str], None] | tuple[tuple[str, int, bool], bytes]
    Found = list[tuple[str, int, Digest]]  # file, line (0: the file is the report), what is in it
    Bad = list[tuple[str, int, str]]  # file, line, why
    Answer = tuple[Found, Bad, int]  # and how many were judged anew


LIMIT = 16 << 20  # bytes of one report; one of 1,024 CPUs has 1.5 MiB
START = b"\n{"  # where the next record begins: an indented report has no "{" in its first column but the first


class Reader:
    """`anew`: judge all reports anew; `details`: keep messages and registers, too."""

    def __init__(self, anew: bool, details: bool) -> None:
        self._anew = anew
        self._details = details
        self._schema: Schema | None = None
        self._same: dict[Any, Any] = {}

    def __call__(self, task: Task) -> Answer:
        """Reads what a task names or has in it. Never raises for what it finds."""
        found: Found = []
        bad: Bad = []
        judged = 0
        for file, line, text in _records(task):
            if isinstance(text, str):
                bad.append((file, line, text))
                continue
            try:
                result, anew = self._digest(text)
                judged += anew
                found.append((file, line, result))
            except DataProblem as problem:
                bad.append((file, line, problem.message.partition(": ")[2]))
            except Malformed as error:
                bad.append((file, line, f"not a report of {SCHEMA}: {error}"))
        self._same.clear()
        return found, bad, judged

    def _digest(self, text: bytes) -> tuple[Digest, bool]:
        data = parse(text, "")
        anew = self._anew or not _is_ours(data)
        if anew:
            if self._schema is None:
                self._schema = report_schema()
            version = data["tool"] if isinstance(data, dict) and "tool" in data else {"version": "unknown"}
            data = {**judge(evidence_of(data, "", self._schema)), "tool": version}
        name, taken_at, profile, told = digest(data, self._details)
        # Equal ones are passed on, and kept, once.
        return (name, taken_at, self._same.setdefault(profile, profile), self._same.setdefault(told, told)), anew


def _is_ours(data: object) -> bool:
    """Whether it is a whole report that this version has made."""
    if not isinstance(data, dict) or data.get("schema") != SCHEMA or "verdict" not in data:
        return False
    tool = data.get("tool")
    return isinstance(tool, dict) and tool.get("name") == "kvmprobe" and tool.get("version") == __version__


def _records(task: Task) -> Iterator[tuple[str, int, bytes | str]]:
    """Each record with its file and line; text in place of bytes says why there are none."""
    if task[1] is not None:
        (file, first, several), block = task
        yield from ((file, line, text) for line, text in _split(block, first, several))
        return
    for file in task[0]:
        text = _read(file)
        if isinstance(text, str):
            yield file, 0, text
        else:
            yield from ((file, line, record) for line, record in _split(text, 1, START in text))


def _split(block: bytes, line: int, several: bool) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start < len(block):
        end = block.find(START, start) + 1 or len(block)
        text = block[start:end]
        if not text.isspace():
            yield line if several else 0, text
        if several:
            line += text.count(b"\n")
        start = end


def _read(path: str) -> bytes | str:
    """A file as a whole, or why not."""
    try:
        text = read_regular(path, LIMIT)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError as error:
        return str(error)
    return text if text.strip() else "is empty"
