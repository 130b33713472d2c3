"""Changes of the kernel's command line, as far as it bears on KVM."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe.compare.difference import CHANGED, NOT_COMPARABLE, SAME, Difference, Side
from kvmprobe.model.values import error_of, is_failure

_AREA = "parameters"
_SUBJECT = "command line"
_ABSENT = "absent"


def command_line(old: Side, new: Side) -> Iterator[Difference]:
    """Each parameter that one of both reports has; reports that lack the command line are not compared."""
    lines = [side.evidence.get("command_line") for side in (old, new)]
    if None in lines:
        return
    if any(map(is_failure, lines)):
        was, now = (error_of(line) or "read" for line in lines)
        yield Difference(_AREA, _SUBJECT, SAME if was == now else NOT_COMPARABLE, was, now)
        return
    before, after = (_by_name(line) for line in lines)
    # Which parameters are kept differs between versions of kvmprobe.
    alike = len({"command_line_left_out" in side.evidence for side in (old, new)}) == 1
    for name in sorted({*before, *after}):
        was, now = before.get(name, _ABSENT), after.get(name, _ABSENT)
        comparable = alike or _ABSENT not in (was, now)
        rating = SAME if was == now else CHANGED if comparable else NOT_COMPARABLE
        note = "" if comparable else "one of both versions of kvmprobe did not record this parameter"
        yield Difference(_AREA, f"{_SUBJECT} {name}", rating, was, now, note)


def _by_name(parameters: list[str]) -> dict[str, str]:
    """The values of each parameter by name, in order: {"mitigations": "off"}; "given" for one without a value."""
    found: dict[str, list[str]] = {}
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        found.setdefault(name.replace("-", "_"), []).append(value if equals else "given")
    return {name: " ".join(values) for name, values in found.items()}
