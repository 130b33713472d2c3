"""All mutants of a module, and how one is named: by file, function and text, which line numbers would not survive."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

from scripts.judge_mutation.operators import operators

PROJECT = Path(__file__).resolve().parents[2]


class Mutant:
    """One change of one module.

    `path`: of the module, below the project; `function`: the function or class that is changed; `lines`: the numbers of
    those that run before anything differs; `name`: of the operator; `operator` and `occurrence`: for cosmic-ray.
    """

    def __init__(self, path: str, function: str, lines: range, name: str, operator: Any, occurrence: int) -> None:
        self.path = path
        self.function = function
        self.lines = lines
        self.name = name
        self._operator = operator
        self._occurrence = occurrence

    @property
    def module(self) -> str:
        """The name under which the module is imported."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def source(self) -> str:
        """The source of the module with this change."""
        changed = mutate_code((PROJECT / self.path).read_text(), self._operator, self._occurrence)
        assert changed is not None
        return str(changed)

    def key(self) -> tuple[str, str, str, str]:
        """Path, function, and the lines before and after the change, joined."""
        old, new = (PROJECT / self.path).read_text().splitlines(), self.source().splitlines()
        lines = [line for line in difflib.unified_diff(old, new, lineterm="", n=0) if line[:3] not in ("---", "+++")]
        before, after = (" ".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
        return self.path, self.function, before, after


def mutants_of(path: Path) -> Iterator[Mutant]:
    """The mutants of one module, except of what is not of interest: see _is_left_out."""
    tree = get_ast(path.read_text())
    nodes = list(ast_nodes(tree))
    for name, operator in operators():
        occurrence = 0
        for node in nodes:
            for _ in operator.mutation_positions(node):
                if not _is_left_out(node):
                    lines = range(_statement(node).start_pos[0], node.end_pos[0] + 1)
                    yield Mutant(str(path.relative_to(PROJECT)), _function(node), lines, name, operator, occurrence)
                occurrence += 1


def _parents(node: Any) -> Iterator[Any]:
    while node is not None:
        yield node
        node = node.parent


def _statement(node: Any) -> Any:
    return next(each for each in _parents(node) if each.parent is None or each.parent.type in ("suite", "file_input"))


def _function(node: Any) -> str:
    names = [each.name.value for each in _parents(node) if each.type in ("funcdef", "classdef")]
    return ".".join(reversed(names)) or "(module)"


def _is_left_out(node: Any) -> bool:
    """Annotations, imports, `if TYPE_CHECKING`, __all__: they change nothing when the judge runs."""
    chain = list(_parents(node))
    for child, parent in zip(chain, chain[1:]):
        if parent.type == "import_from" or (parent.type == "annassign" and child is parent.children[1]):
            return True
        if parent.type == "param" and child is not parent.default:
            return True
        if parent.type == "funcdef" and child is parent.annotation:
            return True
        if parent.type == "expr_stmt" and parent.children[0].get_code().strip() == "__all__":
            return True
        if child.type == "if_stmt" and "TYPE_CHECKING" in child.children[1].get_code():
            return True
    return node.type == "if_stmt" and "TYPE_CHECKING" in node.children[1].get_code()
