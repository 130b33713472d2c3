"""The output of `kvmprobe explain`, from the tables of reasons, causes and conditions of SEV."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe.formats import hint_steps
from kvmprobe.model.printable import columns, joined, wrap
from kvmprobe.model.reasons import REASONS
from kvmprobe.model.verdict_status import EXIT_STATUS

_WIDTH = 80


def render(name: str | None) -> str:
    """One reason or cause in full, by its name; without a name, all reasons with their verdicts, then all causes with
    the first reason of each, then those of SEV."""
    if name is None:
        from kvmprobe.judge.causes import CAUSES  # many modules, which a reason alone does not need
        from kvmprobe.judge.sev import SEV_CAUSES

        reasons = [[reason.name, reason.status] for reason in REASONS.values()]
        causes = [[cause.name, f"a cause of {cause.reasons[0]}"] for cause in CAUSES.values()]
        of_sev = [[cause.name, f"why {cause.reasons[0]} is off"] for cause in SEV_CAUSES.values()]
        return joined(columns([*reasons, *causes, *of_sev]))
    if name not in REASONS:
        return _cause(name)
    reason = REASONS[name]
    head = f"{reason.name}: {reason.status}, exit status {EXIT_STATUS[reason.status]}"
    sections = {"When:": reason.when, "In the kernel:": reason.kernel, "In its log:": reason.log}
    numbered = reason.status in ("failed", "inconclusive")
    return joined([head, *_sections(sections), *_what_to_do(reason.hint, numbered)])


def _cause(name: str) -> str:
    from kvmprobe.judge.causes import CAUSES
    from kvmprobe.judge.sev import SEV_CAUSES

    cause = CAUSES.get(name) or SEV_CAUSES[name]
    what = "a cause of" if name in CAUSES else "why KVM runs no guests of"
    head = wrap(f"{name}: {what} {', '.join(cause.reasons)}", _WIDTH, "", "    ")
    return joined([*head, *_sections({"When:": cause.when}), *_what_to_do(cause.what_to_do(), True)])


def _sections(texts: dict[str, str]) -> Iterator[str]:
    for title, text in texts.items():
        yield from ("", title, *wrap(text, _WIDTH, "  ", "  "))


def _what_to_do(hint: str, numbered: bool) -> Iterator[str]:
    yield from ("", "What to do:")
    for indent, text in hint_steps.lines(hint, numbered):
        yield from wrap(text, _WIDTH, indent, " " * len(indent))
