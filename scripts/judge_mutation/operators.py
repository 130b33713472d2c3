"""The changes that are made, one at a time: cosmic-ray's operators of use here, and our own.

Left out of cosmic-ray's:

- AddNot: a condition that is always true, and one that is always false, are harder to notice (AlwaysTrue, AlwaysFalse).
- Comparisons that become another one than the opposite or the one at the limit: they are noticed where those are, or
  they are `is` in place of `==`, which is the same for small values.
- Other operators in place of "+" than "-", and of "|" than "&": of texts, lists and sets they are a TypeError.
- Decorators, exceptions, variables: the judge has next to none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import parso
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator

_CORE = (
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ReplaceUnaryOperator_Delete_Not",
    "ReplaceUnaryOperator_USub_UAdd",
    "NumberReplacer",
    "ZeroIterationForLoop",
    "ReplaceBinaryOperator_Add_Sub",
    "ReplaceBinaryOperator_Sub_Add",
    "ReplaceBinaryOperator_BitAnd_BitOr",
    "ReplaceBinaryOperator_BitOr_BitAnd",
    "ReplaceComparisonOperator_Eq_NotEq",
    "ReplaceComparisonOperator_NotEq_Eq",
    "ReplaceComparisonOperator_Is_IsNot",
    "ReplaceComparisonOperator_IsNot_Is",
    "ReplaceComparisonOperator_Lt_LtE",
    "ReplaceComparisonOperator_Lt_GtE",
    "ReplaceComparisonOperator_LtE_Lt",
    "ReplaceComparisonOperator_LtE_Gt",
    "ReplaceComparisonOperator_Gt_GtE",
    "ReplaceComparisonOperator_Gt_LtE",
    "ReplaceComparisonOperator_GtE_Gt",
    "ReplaceComparisonOperator_GtE_Lt",
)

Node = Any
Span = tuple[tuple[int, int], tuple[int, int]]


class _Own(Operator):
    """An operator that replaces some children of a node: see `changes`."""

    def changes(self, node: Node) -> Iterator[tuple[slice, str]]:
        """Children of the node, and the source in place of them."""
        raise NotImplementedError

    def mutation_positions(self, node: Node) -> Iterator[Span]:
        children = [node.children[where] for where, _ in self.changes(node)]  # before one of them is changed
        return iter([(part[0].start_pos, part[-1].end_pos) for part in children])

    def mutate(self, node: Node, index: int) -> Node:
        where, source = list(self.changes(node))[index]
        node.children[where] = [parso.parse(source)] if source else []
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


def _conditions(node: Node) -> Iterator[int]:
    """Where the conditions of an if, a conditional expression, or a comprehension are among the node's children."""
    if node.type in ("if_stmt", "comp_if", "test"):
        for index, child in enumerate(node.children[:-1]):
            if child.type == "keyword" and child.value in ("if", "elif"):
                yield index + 1


class AlwaysTrue(_Own):
    """A condition that is always true: nothing differs where it is false."""

    def changes(self, node: Node) -> Iterator[tuple[slice, str]]:
        return ((slice(index, index + 1), " True") for index in _conditions(node))


class AlwaysFalse(_Own):
    """A condition that is always false: an excuse, or a special case, without a variant."""

    def changes(self, node: Node) -> Iterator[tuple[slice, str]]:
        return ((slice(index, index + 1), " False") for index in _conditions(node))


class OperandDropped(_Own):
    """One part of a compound condition is left out."""

    def changes(self, node: Node) -> Iterator[tuple[slice, str]]:
        if node.type in ("and_test", "or_test"):
            last = len(node.children) - 1
            for index in range(0, last + 1, 2):
                others = node.children[index + 2 :] if index == 0 else node.children[: index - 1]
                if index not in (0, last):
                    others = node.children[: index - 1] + node.children[index + 1 :]
                yield slice(0, last + 1), " " + "".join(child.get_code() for child in others).strip()


class EntryDropped(_Own):
    """One entry of a tuple, list, set or dict is left out: a name of a list that no test uses. Prose stays."""

    def changes(self, node: Node) -> Iterator[tuple[slice, str]]:
        if node.type not in ("testlist_comp", "dictorsetmaker") or any(
            c.type == "sync_comp_for" for c in node.children
        ):
            return
        entries: list[list[Node]] = [[]]
        for child in node.children:
            if child.type == "operator" and child.value == ",":
                entries.append([])
            else:
                entries[-1].append(child)
        entries = [entry for entry in entries if entry]
        for index, entry in enumerate(entries):
            if not _is_prose(entry):
                others = [
                    "".join(part.get_code() for part in other) for other in entries if other is not entries[index]
                ]
                yield slice(0, len(node.children)), ",".join([*others, ""]) if others else ""


def _is_prose(entry: list[Node]) -> bool:
    text = "".join(child.get_code() for child in entry).strip().strip("()").strip()
    return text[:1] in "\"'f" and " " in text and text[-1:] in "\"'"


class MemberReversed(_Own):
    """ "in" becomes "not in", and the other way round."""

    def changes(self, node: Node) -> Iterator[tuple[slice, str]]:
        if node.type == "comparison":
            for index, child in enumerate(node.children):
                if child.type == "keyword" and child.value == "in":
                    yield slice(index, index + 1), " not in"
                elif child.type == "comp_op" and [part.value for part in child.children] == ["not", "in"]:
                    yield slice(index, index + 1), " in"


class StatementDropped(_Own):
    """A call for its effect, or an addition to a variable, is left out."""

    def changes(self, node: Node) -> Iterator[tuple[slice, str]]:
        if node.type == "simple_stmt":
            statement = node.children[0]
            adds = statement.type == "expr_stmt" and statement.children[1].type in ("operator", "augassign")
            adds = adds and statement.children[1].value.endswith("=") and statement.children[1].value != "="
            calls = statement.type == "atom_expr" and statement.children[-1].type == "trailer"
            if adds or calls:
                yield slice(0, 1), statement.get_first_leaf().prefix + "pass"


def operators() -> list[tuple[str, Any]]:
    """Name and operator of each change."""
    core = [(name, get_operator(f"core/{name}")()) for name in _CORE]
    own = (AlwaysTrue, AlwaysFalse, OperandDropped, EntryDropped, MemberReversed, StatementDropped)
    return core + [(each.__name__, each()) for each in own]
