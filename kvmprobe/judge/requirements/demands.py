"""What users write behind --require: names, comparisons and files of both."""

from __future__ import annotations

import re

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import UNKNOWN
from kvmprobe.judge.requirements.quantity import OPERATORS, Quantity, QuantityRequirement
from kvmprobe.judge.requirements.requirement import Requirement, RequirementAnswer
from kvmprobe.judge.requirements.requirement_table import QUANTITIES, REQUIREMENTS
from kvmprobe.model.printable import clean, cut

if TYPE_CHECKING:
    from collections.abc import Iterable

# The name, then the first sign of a comparison and what follows it.
_DEMAND = re.compile(r"([A-Za-z0-9_.-]*)\s*(?:([<>=!~]+)\s*(.*))?", re.DOTALL)
_TURNED = {"=>": ">=", "=<": "<="}
_LONGEST = 60  # characters of wrong text that a message repeats


class WrongDemand(ValueError):
    """A text is no requirement: `message` states why, `hint` what to write, both in one line."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


_LIST_HINT = "'--require help' lists all requirements."


def parse_list(text: str) -> list[Requirement]:
    """The requirements in "NAME,NAME>=N". Raises WrongDemand."""
    return [parse(part) for part in text.split(",")]


def parse_file(text: str) -> list[Requirement]:
    """The requirements in the text of a file: one a line, or several with commas; # begins a comment.

    Raises WrongDemand, whose message begins with the number of the line.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        demands = line.partition("#")[0].strip()
        if not demands:
            continue
        try:
            found += parse_list(demands)
        except WrongDemand as wrong:
            raise WrongDemand(f"line {number}: {wrong.message}", wrong.hint) from None
    if not found:
        raise WrongDemand("no requirement in it", "Write one requirement per line. # begins a comment.")
    return found


def parse(text: str) -> Requirement:
    """The requirement in "NAME" or "NAME>=N". Raises WrongDemand."""
    demand = text.strip()
    if not demand:
        raise WrongDemand("a requirement is empty", "Write names between the commas. " + _LIST_HINT)
    if demand == "none":
        raise WrongDemand("none stands alone", "--require none asks nothing. Omit it where something is asked.")
    match = _DEMAND.fullmatch(demand)
    name, sign, limit = match.groups() if match else (demand, None, None)
    if name in QUANTITIES:
        return _comparison(QUANTITIES[name], sign, limit or "")
    if name not in REQUIREMENTS:
        raise _unknown(name or demand)
    if sign is not None:
        raise WrongDemand(f"{_short(demand)}: {name} is no quantity", f"Write {name} alone.")
    return REQUIREMENTS[name]


def stored(name: str) -> Requirement:
    """The requirement of a stored report by its name. One that this version does not know is unknown, never met."""
    try:
        return parse(name)
    except WrongDemand as wrong:
        message, hint = f"this version cannot ask it: {wrong.message}", wrong.hint
        return Requirement(name, message, lambda _: RequirementAnswer(UNKNOWN, message, hint))


def _comparison(quantity: Quantity, sign: str | None, limit: str) -> Requirement:
    example = f"Write it like '{quantity.example}', in quotation marks: the shell takes > and < for itself."
    if sign is None:
        raise WrongDemand(f"{quantity.name} needs a comparison", example)
    sign = "=" if sign == "==" else sign
    if sign not in OPERATORS:
        known = f"; did you mean {_TURNED[sign]}?" if sign in _TURNED else ""
        text = _short(f"{quantity.name}{sign}{limit}")
        raise WrongDemand(f"{text}: {_short(sign)} is no comparison{known}", f"Use one of {' '.join(OPERATORS)}.")
    try:
        return QuantityRequirement(quantity, sign, limit)
    except ValueError as error:
        raise WrongDemand(f"{_short(quantity.name + sign + limit)}: {error}", example) from None


def _unknown(name: str) -> WrongDemand:
    from difflib import get_close_matches

    if name.startswith("@"):
        hint = "Give each file a --require of its own. A file cannot name another file."
        return WrongDemand(f"no requirement is called {_short(name)!r}", hint)
    close = get_close_matches(name.lower().replace("_", "-")[:_LONGEST], [*REQUIREMENTS, *QUANTITIES], 1)
    hint = f"Did you mean {close[0]}? {_LIST_HINT}" if close else _LIST_HINT
    return WrongDemand(f"no requirement is called {_short(name)!r}", hint)


def _short(text: str) -> str:
    return clean(cut(text, _LONGEST))


def combine(lists: Iterable[Iterable[Requirement]]) -> list[Requirement]:
    """All requirements of several lists in their order, each once. Raises WrongDemand where two contradict each
    other, so that no host can meet them."""
    found: dict[str, Requirement] = {}
    for demand in (demand for demands in lists for demand in demands):
        for other in found.values():
            if _contradict(demand, other):
                raise WrongDemand(f"no host can be {other.name} and {demand.name}", "Omit one of them.")
        found.setdefault(demand.name, demand)
    return list(found.values())


def _contradict(one: Requirement, other: Requirement) -> bool:
    if isinstance(one, QuantityRequirement) and isinstance(other, QuantityRequirement):
        return one.contradicts(other)
    return one.name in other.excludes or other.name in one.excludes


def listing() -> list[tuple[str, str]]:
    """Each requirement and what it asks, by name; a quantity as an example of a comparison."""
    named = [(one.name, one.description) for one in REQUIREMENTS.values()]
    return [*named, *((one.example, one.description) for one in QUANTITIES.values())]
