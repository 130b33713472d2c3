"""TAP version 13, flat: one line for each case. Source: testanything.org, "TAP version 13 specification".

kvm-unit-tests writes it, and openQA and avocado read it.
"""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats.harness_cases import flat
from kvmprobe.judge.check_result import PASS, SKIP
from kvmprobe.model.printable import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvmprobe.formats.harness_cases import Case, Suite


def render(suite: Suite) -> str:
    """The suite's cases, each followed by its messages. A suite that was skipped as a whole has the plan 1..0."""
    return "".join(f"{line}\n" for line in _lines(suite))


def _lines(suite: Suite) -> Iterator[str]:
    yield "TAP version 13"
    cases = list(flat(suite.cases))
    yield f"1..{len(cases)}" if cases else f"1..0{_skip(suite)}"
    for name, value in suite.properties.items():
        yield _comment(f"{name}: {value}")
    for number, (name, case) in enumerate(cases, 1):
        result = "ok" if case.status in (PASS, SKIP) else "not ok"
        yield f"{result} {number} - {_name(name)}{_skip(case)}"
        for text in (case.message, *case.more):
            if text:
                yield _comment(text)


def _skip(case: Case) -> str:
    return f" # SKIP {_name(case.skip)}" if case.skip else ""


def _comment(text: str) -> str:
    return f"# {clean(text)}".rstrip()


def _name(text: str) -> str:
    """A name without "#", which would begin a directive."""
    return clean(text).replace("#", "-")
