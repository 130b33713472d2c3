"""The output of `kvmprobe explain`, from the tables of reasons and causes."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe.formats import hint_steps
from kvmprobe.model.printable import columns, joined, wrap
from kvmprobe.model.reasons import REASONS
from kvmprobe.model.verdict_status import EXIT_STATUS

_WIDTH = 80


def render(name: str | None) -> str:
    """One reason, cause or requirement in full, by its name; without a name, all reasons with their verdicts, then all
    causes with the first reason of each."""
    if name is None:
        from kvmprobe.judge.causes import CAUSES  # many modules, which a reason alone does not need

        reasons = [[reason.name, reason.status] for reason in REASONS.values()]
        causes = [[cause.name, f"a cause of {cause.reasons[0]}"] for cause in CAUSES.values()]
        return joined(columns([*reasons, *causes]))
    if name not in REASONS:
        return _cause(name)
    reason = REASONS[name]
    head = f"{reason.name}: {reason.status}, exit status {EXIT_STATUS[reason.status]}"
    sections = {"When:": reason.when, "In the kernel:": reason.kernel, "In its log:": reason.log}
    numbered = reason.status in ("failed", "inconclusive")
    return joined([head, *_sections(sections), *_what_to_do(reason.hint, numbered)])


def _cause(name: str) -> str:
    from kvmprobe.judge.causes import CAUSES

    if name not in CAUSES:
        return _requirement(name)
    cause = CAUSES[name]
    head = wrap(f"{name}: a cause of {', '.join(cause.reasons)}", _WIDTH, "", "    ")
    return joined([*head, *_sections({"When:": cause.when}), *_what_to_do(cause.what_to_do(), True)])


def _requirement(name: str) -> str:
    """What a requirement asks, and how to ask it."""
    from kvmprobe.judge.requirements.requirement_table import QUANTITIES, REQUIREMENTS

    quantity = QUANTITIES.get(name)
    description = quantity.description if quantity else REQUIREMENTS[name].description
    ask = f"--require '{quantity.example}'" if quantity else f"--require {name}"
    return joined([f"{name}: a requirement, kvmprobe check {ask}", *_sections({"What it asks:": description})])


def _sections(texts: dict[str, str]) -> Iterator[str]:
    for title, text in texts.items():
        yield from ("", title, *wrap(text, _WIDTH, "  ", "  "))


def _what_to_do(hint: str, numbered: bool) -> Iterator[str]:
    yield from ("", "What to do:")
    for indent, text in hint_steps.lines(hint, numbered):
        yield from wrap(text, _WIDTH, indent, " " * len(indent))
