"""Finds what is to be compared: two files, or the reports in two folders that belong together."""

from __future__ import annotations

import json
import os

from kvmprobe.compare.comparison import Comparison, Pair, Single
from kvmprobe.judge import judge
from kvmprobe.model.errors import DataProblem, UsageProblem
from kvmprobe.report.reading import read_regular
from kvmprobe.report.stored_report import load

_SUFFIX = ".json"
_SUMMARY = "summary.json"  # of a lab matrix
_LIMIT = 16 << 20  # bytes of it


def read(old: str, new: str) -> Comparison:
    """Compares OLD with NEW. UsageProblem for a file against a folder, DataProblem where nothing can be compared."""
    kinds = ["folder" if path != "-" and os.path.isdir(path) else "file" for path in (old, new)]
    if kinds[0] != kinds[1]:
        raise UsageProblem(
            f"OLD {old} is a {kinds[0]}, NEW {new} is a {kinds[1]}", "Give two reports, or two folders of reports."
        )
    if old == new == "-":
        raise UsageProblem("standard input cannot be both OLD and NEW", "Give a file for one of them.")
    if kinds[0] == "folder":
        return _folders(_Folder(old), _Folder(new))
    pair = Pair("", *((_name(path), judge(load(path))) for path in (old, new)))
    return Comparison([pair], [], {}, folders=False)


def _name(path: str) -> str:
    return "standard input" if path == "-" else path


class _Folder:
    """`reports`: files by their names below the folder; `ended`: by the same names, how a lab says that it ended."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.bad: dict[str, str] = {}
        self.reports = self._walk()
        self.ended = self._ended()

    def _walk(self) -> dict[str, str]:
        found = {}
        for folder, _, files in os.walk(self.path, onerror=self._unreadable):
            for file in files:
                path = os.path.join(folder, file)
                if not file.endswith(_SUFFIX) or file == _SUMMARY:
                    continue
                if not os.path.isfile(path):  # a pipe would be waited for
                    self.bad[path] = "is not a file"
                else:
                    found[os.path.relpath(path, self.path)[: -len(_SUFFIX)]] = path
        return found

    def _unreadable(self, error: OSError) -> None:
        self.bad[str(error.filename)] = f"cannot be read: {error.strerror}"

    def _ended(self) -> dict[str, str]:
        """By the lab's summary: it is in the folder, or one above where the folder is one kernel's."""
        path = os.path.realpath(self.path)
        own = {f"{kernel}/{scenario}": how for (kernel, scenario), how in _cells(path).items()}
        above = _cells(os.path.dirname(path))
        return {**own, **{name: how for (kernel, name), how in above.items() if kernel == os.path.basename(path)}}

    def flatten(self) -> None:
        folders = self.folders()
        self.ended = {
            os.path.basename(name): how for name, how in self.ended.items() if os.path.dirname(name) in folders
        }
        self.reports = {os.path.basename(name): path for name, path in self.reports.items()}

    def folders(self) -> set[str]:
        return {os.path.dirname(name) for name in self.reports}


def _cells(folder: str) -> dict[tuple[str, str], str]:
    """By kernel and scenario: how a cell of the lab's matrix ended. Anything else is no summary of a lab."""
    try:
        cells = json.loads(read_regular(os.path.join(folder, _SUMMARY), _LIMIT))
        return {(str(c["kernel"]), str(c["scenario"])): f"{c['verdict']}, {c['reason']}" for c in cells}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return {}


def _folders(old: _Folder, new: _Folder) -> Comparison:
    for folder in (old, new):
        if not folder.reports and not folder.ended:
            raise DataProblem(f"{folder.path}: there is no report in it", "Give a folder of 'kvmprobe lab matrix'.")
    if not old.reports.keys() & new.reports.keys() and len(old.folders()) == len(new.folders()) == 1:
        old.flatten()  # two kernels, each in its own folder: their scenarios belong together
        new.flatten()
    pairs = []
    bad = {**old.bad, **new.bad}
    for name in sorted(old.reports.keys() & new.reports.keys()):
        sides = []
        for folder in (old, new):
            path = folder.reports[name]
            try:
                sides.append((path, judge(load(path))))
            except DataProblem as problem:
                bad[path] = problem.message[len(path) + 2 :]
        if len(sides) == 2:
            pairs.append(Pair(name, sides[0], sides[1]))
    singles = [Single(name, "OLD", new.ended.get(name, "")) for name in sorted(old.reports.keys() - new.reports.keys())]
    singles += [
        Single(name, "NEW", old.ended.get(name, "")) for name in sorted(new.reports.keys() - old.reports.keys())
    ]
    if not pairs and not bad and not any(single.lost for single in singles):
        names = f"{singles[0].name} is only in {singles[0].side}" if singles else "none is in either"
        raise DataProblem(f"{old.path} and {new.path}: no report is in both ({names})", "Reports match by their paths.")
    return Comparison(pairs, singles, bad, folders=True)
