"""The section of the text report about what --require asked. Imported where it was given."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats.text_checks import check_line
from kvmprobe.formats.text_lines import Line, heading
from kvmprobe.judge.check_result import UNKNOWN
from kvmprobe.judge.requirements.requirement import CHECK_STATUS, MET, NOT_MET
from kvmprobe.model.printable import counted, one_line

if TYPE_CHECKING:
    from kvmprobe.model.judgement import Report


def brief(report: Report) -> Iterator[Line]:
    """One line: how many requirements are met, and the names of the others. The verdict has their messages."""
    rows = report["requirements"]
    by_status = {status: [row["name"] for row in rows if row["status"] == status] for status in (MET, NOT_MET, UNKNOWN)}
    text = f"{len(by_status[MET])} of {counted(len(rows), 'requirement')} met"
    for status, what in ((NOT_MET, "not met"), (UNKNOWN, "unknown")):
        text += f"; {what}: {', '.join(by_status[status])}" if by_status[status] else ""
    yield Line(f"{text}; -v shows each.")


def every(report: Report) -> Iterator[Line]:
    """A line for each requirement with its answer, and one below it with what to do where it is not met."""
    yield heading("Requirements:")
    for row in report["requirements"]:
        yield check_line(CHECK_STATUS[row["status"]], 0, f"{row['name']}: {one_line(row['message'])}")
        if row["hint"]:
            yield Line(f"{'':10}What to do: {one_line(row['hint'], ' ')}", 12)
