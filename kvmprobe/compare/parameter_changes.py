"""What changed in how KVM is set up: modules, their parameters, lockdown."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.compare.difference import CHANGED, NOT_COMPARABLE, SAME, Difference, Side
from kvmprobe.model.values import error_of

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Module, Reading

_AREA = "parameters"

# kvmprobe borrows them; what they are for shows in the registers.
_BORROWED = ("msr", "cpuid")

_BOOLEANS = {"1": "Y", "0": "N"}  # a parameter's type changed over time: nested=1, nested=Y


def parameters(old: Side, new: Side) -> Iterator[Difference]:
    yield _difference("lockdown", old.evidence["kernel"]["lockdown"], new.evidence["kernel"]["lockdown"], "not there")
    known = [side.evidence["modules"] for side in (old, new)]
    if None in known:
        if known[0] is not known[1]:
            was, now = ("not readable" if modules is None else "read" for modules in known)
            yield Difference(_AREA, "/sys/module", NOT_COMPARABLE, was, now)
        return
    for name in sorted({*known[0], *known[1]} - set(_BORROWED)):
        yield from _module(name, known[0].get(name), known[1].get(name))


def _module(name: str, was: Module | None, now: Module | None) -> Iterator[Difference]:
    states = [module["state"] if module else "not there" for module in (was, now)]
    rating = SAME if states[0] == states[1] else CHANGED
    yield Difference(_AREA, f"module {name}", rating, states[0], states[1])
    if was and now:
        for parameter in sorted({*was["parameters"], *now["parameters"]}):
            values = [module["parameters"].get(parameter) for module in (was, now)]
            yield _difference(f"{name}.{parameter}", values[0], values[1], "no such parameter")


def _difference(subject: str, was: Reading, now: Reading, missing: str) -> Difference:
    shown = [value if isinstance(value, str) else error_of(value) or missing for value in (was, now)]
    if _BOOLEANS.get(shown[0], shown[0]) == _BOOLEANS.get(shown[1], shown[1]):
        rating = SAME
    else:
        rating = NOT_COMPARABLE if error_of(was) or error_of(now) else CHANGED
    return Difference(_AREA, subject, rating, shown[0], shown[1])
