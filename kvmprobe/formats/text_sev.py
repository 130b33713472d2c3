"""The section of the text report about SEV: whether KVM can run guests of each level, the cause, and what to do."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats import hint_steps
from kvmprobe.formats.text_lines import Line, heading, packed
from kvmprobe.judge.sev import AVAILABLE, NOT_IN_CPU, OFF
from kvmprobe.model.printable import COLOURS, one_line

if TYPE_CHECKING:
    from kvmprobe.model.judgement import SevLevel, SevReport

# The colour of the check's status that a level's status is like. What the CPU does not have is no failure.
_COLOURS = {AVAILABLE: COLOURS["pass"], OFF: COLOURS["warn"]}
_WIDEST = 10  # columns of a level, and of its status


def section(sev: SevReport, brief: bool) -> Iterator[Line]:
    """A line for each level; then, for each cause, what shows it and what to do. Not `brief`: also each condition."""
    yield heading("Memory encryption of guests:")
    for level in sev["levels"]:
        name = f"{level['level'].upper():<{_WIDEST}}"
        text = f"{name}{level['status']:<{_WIDEST}}{_about(level)}"
        yield Line(text, 2 * _WIDEST, len(name) + len(level["status"]), _COLOURS.get(level["status"], ""))
    for levels in _by_cause(sev["levels"]):
        if not brief or not _is_final(levels[0]):
            yield from _what_to_do(levels)
    if not brief:
        yield heading("Conditions, in the kernel's order:")
        for step in sev["steps"]:
            status = step["status"]
            text = f"[{status.upper():^7}] {one_line(step['message'])} ({step['id']})"
            yield Line(text, _WIDEST, 9, COLOURS[status])


def _is_final(level: SevLevel) -> bool:
    """Whether the CPU does not have the level, whatever the firmware's setup is: then there is nothing to do."""
    return level["cause"] in NOT_IN_CPU and "firmware" not in (level["hint"] or "")


def _about(level: SevLevel) -> str:
    message = one_line(level["message"])
    return f"{message} ({level['cause']})" if level["cause"] else message


def _by_cause(levels: list[SevLevel]) -> list[list[SevLevel]]:
    """The levels that are not available, together where they have the same hint."""
    groups: dict[str, list[SevLevel]] = {}
    for level in levels:
        if level["hint"] is not None:
            groups.setdefault(level["hint"], []).append(level)
    return list(groups.values())


def _what_to_do(levels: list[SevLevel]) -> Iterator[Line]:
    names = ", ".join(level["level"].upper() for level in levels)
    because = [one_line(text) for text in levels[0]["because"]]
    if because:
        yield packed(f"{names}, because:", because)
    yield heading(f"What to do for {names}:")
    for indent, text in hint_steps.lines(one_line(levels[0]["hint"], " "), True):
        yield Line(f"{indent}{text}", len(indent))
