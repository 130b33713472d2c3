"""The output of `kvmprobe explain`, from the tables of reasons and causes."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe.formats.hint_steps import steps
from kvmprobe.judge.causes import CAUSES
from kvmprobe.model.printable import columns, joined, wrap
from kvmprobe.model.reasons import REASONS
from kvmprobe.model.verdict_status import EXIT_STATUS

_WIDTH = 80


def render(name: str | None) -> str:
    """One reason or cause in full, by its name; without a name, all reasons with their verdicts, then all causes with
    the first reason of each."""
    if name is None:
        reasons = [[reason.name, reason.status] for reason in REASONS.values()]
        causes = [[cause.name, f"a cause of {cause.reasons[0]}"] for cause in CAUSES.values()]
        return joined(columns([*reasons, *causes]))
    if name in CAUSES:
        return _cause(name)
    reason = REASONS[name]
    sections = {
        "When:": [reason.when],
        "In the kernel:": [reason.kernel],
        "In its log:": [reason.log],
        "What to do:": steps(reason.hint),
    }
    head = f"{reason.name}: {reason.status}, exit status {EXIT_STATUS[reason.status]}"
    return joined([head, *(line for title, texts in sections.items() for line in _section(title, texts))])


def _cause(name: str) -> str:
    cause = CAUSES[name]
    sections = {"When:": [cause.when], "What to do:": steps(cause.what_to_do())}
    head = wrap(f"{name}: a cause of {', '.join(cause.reasons)}", _WIDTH, "", "    ")
    return joined([*head, *(line for title, texts in sections.items() for line in _section(title, texts))])


def _section(title: str, paragraphs: list[str]) -> Iterator[str]:
    yield from ("", title)
    for paragraph in paragraphs:
        yield from wrap(paragraph, _WIDTH, "  ", "    ")
