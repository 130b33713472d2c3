"""Runs the quick tests of judging against mutants, each in a process of its own, forked when pytest is loaded."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import hypothesis  # noqa: F401  loaded here once, not in each process
import jsonschema  # noqa: F401
import pytest

from scripts.mutation.mutants import PROJECT, Mutant

# The rest of the quick tests: those that notice the most in the shortest time come first. A mutant is dead at the first
# failure.
STAGES = (
    ("test_causes.py", "test_cases.py", "test_firmware.py", "test_passive_evidence.py", "test_observers.py"),
    ("test_judgements.py", "test_cpus.py", "test_judge.py", "test_oracle.py"),
)
DEADLINE_S = 300  # a mutant that makes an endless loop is noticed


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a mutant's source."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self._path = str(PROJECT / mutant.path)

    def find_spec(self, name: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name != self._mutant.module:
            return None
        is_package = self._path.endswith("/__init__.py")
        spec = importlib.util.spec_from_loader(name, self, origin=self._path, is_package=is_package)
        if spec and is_package:
            spec.submodule_search_locations = [os.path.dirname(self._path)]
        return spec

    def exec_module(self, module: Any) -> None:
        exec(compile(self._mutant.source(), self._path, "exec"), module.__dict__)


def survivors(mutants: list[Mutant], jobs: int, stages: int) -> Iterator[tuple[Mutant, bool]]:
    """Each mutant, and whether it survived, in the order in which the processes end. `stages`: how many of STAGES."""
    running: dict[int, Mutant] = {}
    waiting = list(reversed(mutants))
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            running[_start(mutant, stages)] = mutant
        pid, status = os.wait()
        yield running.pop(pid), status == 0


def tests_pass() -> bool:
    """Whether the tests pass without a change: if they do not, they seem to kill every mutant."""
    return os.waitpid(_start(None, len(STAGES)), 0)[1] == 0


def _start(mutant: Mutant | None, stages: int) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.alarm(DEADLINE_S)
        quiet = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):
            os.dup2(quiet, descriptor)
        os.environ.update(KVMPROBE_SEED="1", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
        os.chdir(PROJECT)
        if mutant:
            sys.meta_path.insert(0, _Finder(mutant))
        status = int(_differs() or any(_fails(stage) for stage in STAGES[:stages]))
    finally:
        os._exit(status)


def _differs() -> bool:
    """Whether test_judgements.py would fail, without the time that pytest takes to collect it."""
    from tests.helpers import judgement_lines

    stored = judgement_lines.stored()
    return any(give() != stored.get(head, []) for head, give in judgement_lines.sections())


def _fails(names: tuple[str, ...]) -> bool:
    files = [str(PROJECT / "tests/judge" / name) for name in names]
    return pytest.main(["-x", "-q", "-p", "no:cacheprovider", *files]) != 0
