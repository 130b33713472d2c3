"""Runs the quick tests of judging against mutants, each in a process of its own, forked when pytest is loaded."""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis  # noqa: F401  loaded here once, not in each process
import jsonschema  # noqa: F401
import pytest

from scripts.judge_mutation.mutants import PROJECT, Mutant

# The quick tests, in the order in which they run after the judgements themselves: see _judgements. A mutant is dead at
# the first failure.
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


class Trial:
    """Runs the tests against mutants. `stages`: how many of STAGES."""

    def __init__(self, stages: int = len(STAGES)) -> None:
        self._stages = stages
        self._ran = _lines_by_judgement()

    def passes_unchanged(self) -> bool:
        """Whether the tests pass without a change: if they do not, they seem to kill every mutant."""
        return os.waitpid(self._start(None), 0)[1] == 0

    def results(self, mutants: list[Mutant], jobs: int) -> Iterator[tuple[Mutant, bool]]:
        """Each mutant, and whether it survived, in the order in which the processes end."""
        running: dict[int, Mutant] = {}
        waiting = list(reversed(mutants))
        while waiting or running:
            while waiting and len(running) < jobs:
                mutant = waiting.pop()
                running[self._start(mutant)] = mutant
            pid, status = os.wait()
            yield running.pop(pid), status == 0

    def _start(self, mutant: Mutant | None) -> int:
        return _in_child(lambda: self._fails(mutant))

    def _fails(self, mutant: Mutant | None) -> bool:
        signal.alarm(DEADLINE_S)
        quiet = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):
            os.dup2(quiet, descriptor)
        os.environ.update(KVMPROBE_SEED="1", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
        os.chdir(PROJECT)
        chosen = None
        if mutant:
            sys.meta_path.insert(0, _Finder(mutant))
            chosen = self._that_run(mutant)
        differs = any(give() != wanted for name, give, wanted in _judgements() if chosen is None or name in chosen)
        return differs or any(_stage_fails(stage) for stage in STAGES[: self._stages])

    def _that_run(self, mutant: Mutant) -> set[str] | None:
        """The judgements that run a line of the mutant; None for all, where the line is of no function."""
        if mutant.function == "(module)":
            return None
        lines = {(mutant.path, number) for number in mutant.lines}
        return {name for name, ran in self._ran.items() if ran & lines}


def _in_child(run: Callable[[], bool]) -> int:
    """Starts a process that ends with status 1 where `run` gives True or fails, and with 0 else."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        status = int(run())
    finally:
        os._exit(status)


def _judgements() -> Iterator[tuple[str, Callable[[], object], object]]:
    """What test_judgements.py and test_judge.py compare: name, judgement, and the stored one."""
    from kvmprobe.judge import judge
    from tests.helpers import judgement_lines
    from tests.helpers.recorded_evidence import RECORDED, recorded_name

    stored = judgement_lines.stored()
    for name, give in judgement_lines.sections():
        yield name, give, stored.get(name, [])
    for path in RECORDED:
        report = json.loads(path.read_text())
        wanted = report["verdict"], report["checks"]
        yield f"stored {recorded_name(path)}", functools.partial(_decided, judge, report["evidence"]), wanted


def _decided(judge: Any, evidence: Any) -> object:
    report = judge(evidence)
    return report["verdict"], report["checks"]


def _lines_by_judgement() -> dict[str, set[tuple[str, int]]]:
    """The lines of the judge that each judgement runs, by path and number: the others cannot notice a change there."""
    reader, writer = os.pipe()
    pid = _in_child(lambda: _write_lines(writer))
    os.close(writer)
    with open(reader, "rb") as stream:
        found: dict[str, set[tuple[str, int]]] = pickle.load(stream)
    os.waitpid(pid, 0)
    return found


def _write_lines(writer: int) -> bool:
    found: dict[str, set[tuple[str, int]]] = {}
    ran: set[tuple[str, int]] = set()
    prefix = f"{PROJECT}/"

    def trace(frame: Any, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(f"{prefix}kvmprobe/judge"):
            return None
        ran.add((frame.f_code.co_filename.removeprefix(prefix), frame.f_lineno))
        return trace

    for name, give, _ in _judgements():
        ran = set()
        sys.settrace(trace)
        give()
        sys.settrace(None)
        found[name] = ran
    with open(writer, "wb") as stream:
        pickle.dump(found, stream)
    return False


def _stage_fails(names: tuple[str, ...]) -> bool:
    files = [str(PROJECT / "tests/judge" / name) for name in names]
    return pytest.main(["-x", "-q", "-p", "no:cacheprovider", *files]) != 0
