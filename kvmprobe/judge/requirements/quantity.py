"""Quantities, which a requirement compares with a limit: cpus>=64, kernel>=6.12."""

from __future__ import annotations

import operator

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import UNKNOWN
from kvmprobe.judge.requirements.requirement import MET, NOT_MET, Requirement, RequirementAnswer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Callable

    from kvmprobe.judge.facts import Facts

    Value = Any  # a number, or a tuple of numbers; two values of one quantity can be compared


class Measurement:
    """What the evidence shows of a quantity.

    `values`: of each part of the host that has it (of each CPU) the lowest and the highest value that the evidence
    allows: the same twice where it is known. Empty where it is unknown. `text`: for people, what was read, or why
    nothing was. `unknown_hint`: in place of that of the quantity.
    """

    def __init__(self, values: Sequence[tuple[Value, Value]], text: str, unknown_hint: str | None = None) -> None:
        self.values = values
        self.text = text
        self.unknown_hint = unknown_hint


class Quantity:
    """A quantity of a host.

    `parse`: the limit in a text such as "64"; ValueError, whose message states what it must be, for anything else.
    `measure`: the quantity in the evidence, given the limit. `example`: of a comparison. `hint`: what to do where the
    comparison is not so; `unknown_hint`: what to do where it is unknown.
    """

    def __init__(
        self,
        name: str,
        description: str,
        example: str,
        parse: Callable[[str], Value],
        measure: Callable[[Facts, Value], Measurement],
        hint: str,
        unknown_hint: str,
    ) -> None:
        self.name = name
        self.description = description
        self.example = example
        self.parse = parse
        self.measure = measure
        self.hint = hint
        self.unknown_hint = unknown_hint


OPERATORS: dict[str, Callable[[Value, Value], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_LOWER, _UPPER = (">=", ">", "="), ("<=", "<", "=")  # the operators that limit a value on this side


class QuantityRequirement(Requirement):
    """A quantity that must be as `sign`, a key of OPERATORS, and `limit` state. `text`: the limit as it was written."""

    def __init__(self, quantity: Quantity, sign: str, text: str) -> None:
        super().__init__(f"{quantity.name}{sign}{text}", quantity.description, self._answer)
        self.quantity = quantity
        self.sign = sign
        self.limit = quantity.parse(text)

    def _answer(self, facts: Facts) -> RequirementAnswer:
        found = self.quantity.measure(facts, self.limit)
        answers = {self._compare(*value) for value in found.values}
        if False in answers:
            return RequirementAnswer(NOT_MET, found.text, self.quantity.hint)
        if answers == {True}:
            return RequirementAnswer(MET, found.text)
        return RequirementAnswer(UNKNOWN, found.text, found.unknown_hint or self.quantity.unknown_hint)

    def _compare(self, lowest: Value, highest: Value) -> bool | None:
        """Whether every value from `lowest` to `highest` is as required (True), or none (False); else None."""
        compare = OPERATORS[self.sign]
        if self.sign == "=" and lowest != highest:
            return None if lowest <= self.limit <= highest else False
        ends = {compare(lowest, self.limit), compare(highest, self.limit)}
        return ends.pop() if len(ends) == 1 else None

    def contradicts(self, other: QuantityRequirement) -> bool:
        """Whether no value is as both comparisons require."""
        if other.quantity is not self.quantity:
            return False
        return self._is_above(other) or other._is_above(self)

    def _is_above(self, other: QuantityRequirement) -> bool:
        """Whether the lower limit of this one is above the upper limit of the other."""
        if self.sign not in _LOWER or other.sign not in _UPPER:
            return False
        if self.limit == other.limit:
            return self.sign == ">" or other.sign == "<"
        return bool(self.limit > other.limit)
