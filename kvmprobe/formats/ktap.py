"""KTAP version 1: a plan, and one line for each case. Source: the kernel's Documentation/dev-tools/ktap.rst."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats.harness_cases import Suite, without_directive
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
    yield f"1..{len(case.cases)}" if case.cases else f"1..0{case.directive()}"
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
    yield f"{case.result()} {number} {without_directive(case.name)}{case.directive()}"


def _comment(name: str, text: str) -> str:
    return f"# {clean(name)}: {clean(text)}".rstrip()
