"""Finds the reports to compare: two files, or the reports of two folders that have the same path."""

from __future__ import annotations

import json
import os

from kvmprobe import TYPE_CHECKING
from kvmprobe.compare.comparison import Comparison, Pair, Single
from kvmprobe.judge import judge
from kvmprobe.model.errors import DataProblem, UsageProblem
from kvmprobe.report.reading import LIMIT, MATRIX_SUMMARY, ReportFiles, open_in_folder, read_all
from kvmprobe.report.stored_report import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvmprobe.judge.requirements.requirement import Requirement

_SUFFIX = ".json"


def read(old: str, new: str, *, strict: bool = False, requirements: Sequence[Requirement] = ()) -> Comparison:
    """Compares OLD with NEW; `strict`: what changed counts as worse. `requirements` are asked of both; what the reports
    asked when they were written does not count.

    Raises UsageProblem for a file and a folder, DataProblem where nothing can be compared.
    """
    kinds = ["folder" if path != "-" and os.path.isdir(path) else "file" for path in (old, new)]
    if kinds[0] != kinds[1]:
        raise UsageProblem(
            f"OLD {old} is a {kinds[0]}, NEW {new} is a {kinds[1]}", "Give two reports, or two folders of reports."
        )
    if old == new == "-":
        raise UsageProblem("standard input cannot be both OLD and NEW", "Give a file for one of them.")
    if kinds[0] == "folder":
        return _compare_folders(_Folder(old), _Folder(new), strict, requirements)
    before, after = ((_name(path), judge(load(path)[0], requirements)) for path in (old, new))
    pair = Pair("", before, after, strict)
    return Comparison([pair], [], {}, are_folders=False)


def _name(path: str) -> str:
    return "standard input" if path == "-" else path


class _Folder:
    """`reports`: the files, by their path below the folder without .json. `ended`: by the same names, how a lab's run
    of a scenario ended. `bad`: why a file could not be read, by its path."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.bad: dict[str, str] = {}
        self.reports = self._walk()
        self.ended = self._lab_results()

    def _walk(self) -> dict[str, str]:
        files = ReportFiles(self.path, (_SUFFIX,))
        found = {os.path.relpath(path, self.path)[: -len(_SUFFIX)]: path for path in files}
        self.bad.update(files.bad)
        return found

    def _lab_results(self) -> dict[str, str]:
        """By the lab's summary, which is in the folder, or in the folder above where this is the folder of a kernel."""
        path = os.path.realpath(self.path)
        own = {f"{kernel}/{scenario}": how for (kernel, scenario), how in _matrix_results(path).items()}
        kernel = os.path.basename(path)
        above = _matrix_results(os.path.dirname(path))
        return {**own, **{scenario: how for (name, scenario), how in above.items() if name == kernel}}

    def flatten(self) -> None:
        """Reduces all names to their last part, the scenario."""
        folders = self.folders()
        self.ended = {
            os.path.basename(name): how for name, how in self.ended.items() if os.path.dirname(name) in folders
        }
        self.reports = {os.path.basename(name): path for name, path in self.reports.items()}

    def folders(self) -> set[str]:
        """The folders of the reports, by their path below this one."""
        return {os.path.dirname(name) for name in self.reports}


def _matrix_results(folder: str) -> dict[tuple[str, str], str]:
    """How each run of the lab's matrix ended, by kernel and scenario; nothing where the file is no such summary."""
    try:
        runs = json.loads(read_all(open_in_folder(os.path.join(folder, MATRIX_SUMMARY)), LIMIT))
        return {(str(run["kernel"]), str(run["scenario"])): f"{run['verdict']}, {run['reason']}" for run in runs}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return {}


def _compare_folders(old: _Folder, new: _Folder, strict: bool, requirements: Sequence[Requirement]) -> Comparison:
    for folder in (old, new):
        if not folder.reports and not folder.ended:
            raise DataProblem(f"{folder.path}: there is no report in it", "Give a folder of 'kvmprobe lab matrix'.")
    if not old.reports.keys() & new.reports.keys() and len(old.folders()) == len(new.folders()) == 1:
        old.flatten()  # each is the folder of one kernel: the same scenarios are compared
        new.flatten()
    pairs = []
    bad = {**old.bad, **new.bad}
    for name in sorted(old.reports.keys() & new.reports.keys()):
        sides = []
        for folder in (old, new):
            path = folder.reports[name]
            try:
                sides.append((path, judge(load(path, in_folder=True)[0], requirements)))
            except DataProblem as problem:
                bad[path] = problem.message[len(path) + 2 :]
        if len(sides) == 2:
            pairs.append(Pair(name, sides[0], sides[1], strict))
    singles = _singles("OLD", old, new) + _singles("NEW", new, old)
    if not pairs and not bad and not any(single.lost for single in singles):
        found = f"{singles[0].name} is only in {singles[0].side}" if singles else "both have no report"
        raise DataProblem(f"{old.path} and {new.path}: no report is in both ({found})", "Reports match by their paths.")
    return Comparison(pairs, singles, bad, are_folders=True)


def _singles(side: str, folder: _Folder, other: _Folder) -> list[Single]:
    """The reports of `folder` that the `other` one does not have."""
    names = sorted(folder.reports.keys() - other.reports.keys())
    return [Single(name, side, other.ended.get(name, "")) for name in names]
