"""The answers of a measurement as files: FOLDER/MUTANT/COMMAND.json. So they can be judged again without a boot."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.kernel_mutants.mutant_boots import Answer, Task
from scripts.kernel_mutants.mutant_table import Mutant

_GOOD = "good"


def save(folder: Path, mutants: Sequence[Mutant], task: Task, answer: Answer) -> None:
    """Writes one answer below `folder`."""
    path = folder / _name(mutants, task)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(answer)) + "\n")


def load(folder: Path, mutants: Sequence[Mutant], tasks: Sequence[Task]) -> Mapping[Task, Answer]:
    """Returns the answers to `tasks` that are below `folder`."""
    paths = {task: folder / _name(mutants, task) for task in tasks}
    return {task: Answer(**json.loads(path.read_text())) for task, path in paths.items() if path.exists()}


def _name(mutants: Sequence[Mutant], task: Task) -> str:
    name = mutants[task.number - 1].name if task.number else _GOOD
    state = "" if task.number else "".join(f"-{part.split(',')[0]}" for part in (task.before, task.cpu) if part)
    return f"{name}{state}/{task.command}{f'-{task.again}' if task.again else ''}.json"
