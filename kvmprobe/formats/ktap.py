"""KTAP version 1: a plan, and one line for each case. Source: the kernel's Documentation/dev-tools/ktap.rst."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats.harness_cases import Suite
from kvmprobe.judge.check_result import PASS, SKIP
from kvmprobe.model.printable import clean

if TYPE_CHECKING:
    from kvmprobe.formats.harness_cases import Case

_INDENT = "  "


def render(suite: Suite) -> str:
    """The suite with its cases. A suite that was skipped as a whole has the plan 1..0."""
    return "".join(f"{line}\n" for line in _block(suite))


def _block(case: Case) -> Iterator[str]:
    """A case's own cases, below the version and the plan. Only the plan may follow the version."""
    yield "KTAP version 1"
    yield f"1..{len(case.cases)}" if case.cases else f"1..0{_skip(case)}"
    if isinstance(case, Suite):
        for name, value in case.properties.items():
            yield _comment(name, value)
    for number, inner in enumerate(case.cases, 1):
        yield from _case(inner, number)


def _case(case: Case, number: int) -> Iterator[str]:
    """The case's own cases, its message, its result."""
    if case.cases:
        for line in _block(case):
            yield _INDENT + line
    elif isinstance(case, Suite):  # skipped: the kernel's parser takes an inner plan 1..0 as an error
        for name, value in case.properties.items():
            yield _comment(case.name, f"{name}: {value}")
    for text in (case.message, *case.more):
        if text:
            yield _comment(case.name, text)
    result = "ok" if case.status in (PASS, SKIP) else "not ok"
    yield f"{result} {number} {_name(case.name)}{_skip(case)}"


def _skip(case: Case) -> str:
    return f" # SKIP {_name(case.skip)}" if case.skip else ""


def _comment(name: str, text: str) -> str:
    return f"# {clean(name)}: {clean(text)}".rstrip()


def _name(text: str) -> str:
    """A name without "#", which would begin a directive."""
    return clean(text).replace("#", "-")
