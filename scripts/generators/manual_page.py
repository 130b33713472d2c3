"""The manual page: the prose of docs/kvmprobe.8.md, and the parts that follow from the parser and the table of reasons.

A comment on a line of its own, <!-- NAME -->, is the place of a part.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from kvmprobe import __version__
from kvmprobe.model.reasons import REASONS
from kvmprobe.model.verdict_status import EXIT_STATUS, Reason
from scripts.generators.markdown_to_man import convert, escape
from scripts.generators.parser_text import ParserText

SECTION = "8"  # a command of system administration, usually run as root, as lspci(8) and turbostat(8) are

_PROSE = Path(__file__).parents[2] / "docs/kvmprobe.8.md"
_PLACE = re.compile(r"^<!-- ([a-z ]+) -->$", re.MULTILINE)
_HEAD = r""".\" Made by scripts/manual from docs/kvmprobe.8.md, the parser of the command line and the table of reasons.
.TH KVMPROBE {section} "{date}" "kvmprobe {version}" "System Manager\(aqs Manual"
.\" Names of options, reasons and functions are not hyphenated.
.nh
.ad l
"""


def render(date: str) -> str:
    """The page in man(7); `date` is YYYY-MM-DD or empty. Raises KeyError for a place without a part."""
    text = ParserText()
    parts: dict[str, Callable[[], str]] = {
        "synopsis": text.synopsis,
        "commands": text.commands,
        "options": text.options,
        "exit status": text.exit_status,
        "reasons": _reasons,
    }
    markdown = _PLACE.sub(lambda place: parts[place[1]](), _PROSE.read_text(encoding="utf-8"))
    return _HEAD.format(section=SECTION, date=date, version=__version__) + convert(markdown)


def _reasons() -> str:
    return "\n\n".join(map(_reason, REASONS.values()))


def _reason(reason: Reason) -> str:
    """Name, status and exit status; then when it is given, what the kernel does, its log, what to do."""
    head = f"**{reason.name}** ({reason.status}, {EXIT_STATUS[reason.status]})\n:   {escape(reason.when)}"
    more = (("The kernel", reason.kernel), ("Its log", reason.log), ("What to do", reason.hint))
    return "\n\n".join([head, *(f"    *{title}*:\n    {escape(text)}" for title, text in more if text != "Nothing.")])
