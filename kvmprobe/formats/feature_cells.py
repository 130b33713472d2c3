"""What kvm_amd made of each feature, as the cells of a table for people."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.features import features_of
from kvmprobe.model.cpu_lists import cpu_names, format_cpulist, parse_cpulist
from kvmprobe.model.printable import counted, cut, one_line
from kvmprobe.model.values import error_of

if TYPE_CHECKING:
    from kvmprobe.judge.facts import Facts
    from kvmprobe.model.judgement import FeatureReport

TITLES = ("feature", "CPU", "allowed", "kernel", "parameter", "offered", "in effect")
_LONGEST = 16  # characters of a list of CPUs, and of a value
_WORDS = {True: "yes", False: "no", None: "?"}


def feature_cells(facts: Facts) -> list[tuple[str, ...]]:
    """A row of cells, one for each of TITLES, for each feature. "?" is unknown."""
    every_cpu = format_cpulist(facts.identified)
    return [_cells(row, every_cpu) for row in features_of(facts)]


def _cells(row: FeatureReport, every_cpu: str) -> tuple[str, ...]:
    cpu = _WORDS[row["cpu"]] if row["lacking"] in (None, every_cpu) else f"not {_names(row['lacking'])}"
    words = (_WORDS[row["allowed"]], _WORDS[row["kernel"]])
    why = "" if row["first_no"] == "cpu" else one_line(row["why"] or "")  # the column of the CPU shows it
    effect = _WORDS[row["in_effect"]] + (f": {why}" if why else "")
    return (row["name"], cpu, *words, _parameter(row), _WORDS[row["offered"]], effect)


def _names(cpus: str) -> str:
    """ "cpu1", "cpu0-3,8"; of a long list how many there are."""
    numbers = parse_cpulist(cpus)
    names = cpu_names(numbers)
    return names if len(names) <= _LONGEST else counted(len(numbers), "CPU")


def _parameter(row: FeatureReport) -> str:
    """The value of its parameter, why it could not be read, "?" where it is unknown; "-" for no parameter."""
    if row["parameter"] is None:
        return "-"
    value = error_of(row["value"]) or ("?" if row["value"] is None else row["value"])
    return cut(one_line(value), _LONGEST)
