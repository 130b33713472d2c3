"""TAP version 13, flat: one line for each case. Source: testanything.org, "TAP version 13 specification".

kvm-unit-tests writes it, and openQA and avocado read it.
"""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats.harness_cases import flat, without_directive
from kvmprobe.model.printable import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvmprobe.formats.harness_cases import Suite


def render(suite: Suite) -> str:
    """The suite's cases, each followed by its messages. A suite that was skipped as a whole has the plan 1..0."""
    return "".join(f"{line}\n" for line in _lines(suite))


def _lines(suite: Suite) -> Iterator[str]:
    yield "TAP version 13"
    cases = list(flat(suite.cases))
    yield f"1..{len(cases)}" if cases else f"1..0{suite.directive()}"
    for name, value in suite.properties.items():
        yield _comment(f"{name}: {value}")
    for number, (name, case) in enumerate(cases, 1):
        yield f"{case.result()} {number} - {without_directive(name)}{case.directive()}"
        for text in (case.message, *case.more):
            if text:
                yield _comment(text)


def _comment(text: str) -> str:
    return f"# {clean(text)}".rstrip()
