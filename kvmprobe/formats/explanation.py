"""What `kvmprobe explain` prints, from the table of reasons."""

from __future__ import annotations

import textwrap

from kvmprobe.model.errors import UsageProblem
from kvmprobe.model.reasons import EXIT_STATUS, REASONS


def render(name: str | None) -> str:
    """One reason in full, or all of them in a line each. UsageProblem for a name that is none."""
    if name is None:
        width = max(map(len, REASONS))
        return "".join(f"{reason.name:{width}}  {reason.status}\n" for reason in REASONS.values())
    if name not in REASONS:
        import difflib

        close = difflib.get_close_matches(name, REASONS, 1)
        hint = f"Did you mean {close[0]}?" if close else "'kvmprobe explain' lists them all."
        raise UsageProblem(f"there is no reason {name!r}", hint)
    reason = REASONS[name]
    parts = (
        ("when", reason.when),
        ("the kernel", reason.kernel),
        ("its log", reason.log),
        ("what to do", reason.hint),
    )
    body = "".join(_paragraph(title, text) for title, text in parts)
    return f"{reason.name}: {reason.status}, exit status {EXIT_STATUS[reason.status]}\n{body}"


def _paragraph(title: str, text: str) -> str:
    return (
        f"\n{title}:\n"
        + textwrap.fill(
            text, 80, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
        )
        + "\n"
    )
