"""A strict parser of KTAP version 1. It accepts only what the kernel's Documentation/dev-tools/ktap.rst defines, and no
unknown lines, which that page allows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_PLAN = re.compile(r"1\.\.(0|[1-9][0-9]*)(?: # SKIP ([a-z0-9-]+))?")
_RESULT = re.compile(r"(ok|not ok) ([1-9][0-9]*) ([a-z0-9][a-z0-9._-]*)(?: # SKIP ([a-z0-9-]+))?")
_COMMENT = re.compile(r"# [^ ].*")


@dataclass
class Test:
    """One result. `skip`: its reason; None where the test was not skipped."""

    __test__ = False  # for pytest: this class is not a test

    name: str = ""
    ok: bool = True
    skip: str | None = None
    comments: list[str] = field(default_factory=list)
    tests: list[Test] = field(default_factory=list)

    def names(self) -> list[str]:
        return [test.name for test in self.tests]


def parse(text: str) -> Test:
    """The whole output as one test with its tests. Raises ValueError for the first line that is wrong."""
    if not text.endswith("\n"):
        raise ValueError("the last line has no newline")
    lines = text[:-1].split("\n")
    for line in lines:
        if not line.isprintable() or line != line.rstrip():
            raise ValueError(f"control characters, or spaces at the end: {line!r}")
    whole, rest = _block(lines, "")
    if rest:
        raise ValueError(f"after the end: {rest[0]!r}")
    return whole


def _block(lines: list[str], indent: str) -> tuple[Test, list[str]]:
    """A block of one depth (version, plan, results), and the lines after it."""
    if len(lines) < 2 or lines[0] != f"{indent}KTAP version 1":
        raise ValueError(f"not a version and a plan: {lines[:2]}")
    plan = _at(_PLAN, lines[1], indent)
    if plan is None:
        raise ValueError(f"not a plan: {lines[1]!r}")
    planned, block, lines = int(plan[1]), Test(skip=plan[2]), lines[2:]
    if (planned == 0) != (block.skip is not None) or (planned == 0 and indent):
        raise ValueError(f"a plan 1..0 needs a skip of the whole, and the other way round: {plan[0]!r}")
    inner: list[Test] = []
    comments = block.comments
    while lines and (planned == 0 or len(block.tests) < planned):
        line = lines[0]
        if line == f"{indent}  KTAP version 1":
            if inner:
                raise ValueError("two blocks before one result")
            whole, lines = _block(lines, indent + "  ")
            inner = whole.tests
            comments = whole.comments
            continue
        lines = lines[1:]
        result = _at(_RESULT, line, indent)
        if result:
            test = Test(result[3], result[1] == "ok", result[4], comments, inner)
            _check(test, int(result[2]), block)
            block.tests.append(test)
            inner, comments = [], []
        elif _at(_COMMENT, line, indent):
            comments.append(line.strip())
        else:
            raise ValueError(f"neither a result nor a comment at this depth: {line!r}")
    if inner or len(block.tests) != planned:
        raise ValueError(f"{planned} planned, {len(block.tests)} found")
    return block, lines


def _at(pattern: re.Pattern[str], line: str, indent: str) -> re.Match[str] | None:
    return pattern.fullmatch(line[len(indent) :]) if line.startswith(indent) else None


def _check(test: Test, number: int, block: Test) -> None:
    if number != len(block.tests) + 1:
        raise ValueError(f"{test.name} has the number {number}, not {len(block.tests) + 1}")
    if test.name in block.names():
        raise ValueError(f"{test.name} twice")
    if test.skip is not None and not test.ok:
        raise ValueError(f"{test.name}: skipped and not ok")
    if test.ok and not all(inner.ok for inner in test.tests):
        raise ValueError(f"{test.name} is ok, and something in it is not")
