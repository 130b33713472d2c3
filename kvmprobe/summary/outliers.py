"""Outliers: hosts that differ from most hosts of their cohort, which has the same CPU model and the same kernel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats.host_row import CHECK_IDS, MARKS, UNKNOWN, HostRow, Profile
from kvmprobe.model.verdict_status import BEST_FIRST
from kvmprobe.summary.fleet import row_order

if TYPE_CHECKING:
    Cohort = tuple[str, str]  # CPU model, kernel


SMALLEST = 3  # hosts in a cohort: among fewer, nobody can call one unusual
FEW = 10  # a value is unusual where at most one host in FEW has it, or a single host
_MAJORITY = 2, 3  # a value is usual where at least two thirds of a cohort have it
_VERDICT = "verdict"


class UnusualValue:
    """In `what` ("microcode", "kvm_amd.npt", …) hosts have `value`, and `number` others of the cohort have `usual`."""

    def __init__(self, what: str, value: str, usual: str, number: int) -> None:
        self.what = what
        self.value = value
        self.usual = usual
        self.number = number


class OutlierGroup:
    """The hosts of one cohort that have the same unusual values. `size`: how many hosts the whole cohort has."""

    def __init__(self, cohort: Cohort, size: int, values: list[UnusualValue]) -> None:
        self.model, self.kernel = cohort
        self.size = size
        self.values = values
        self.hosts: list[HostRow] = []

    def status(self) -> str:
        """The status of the verdict where the verdict is unusual, else ""."""
        return self.hosts[0].profile.status if self.values[0].what == _VERDICT else ""


def find_outliers(hosts: Iterable[HostRow]) -> list[OutlierGroup]:
    """The outliers among all hosts of a fleet: the worst verdict first, then the smallest group."""
    cohorts: dict[Cohort, dict[Profile, list[HostRow]]] = {}
    for host in hosts:
        cohort = cohorts.setdefault((host.profile.model, host.profile.kernel), {})
        cohort.setdefault(host.profile, []).append(host)
    found = [group for cohort, profiles in cohorts.items() for group in _of_cohort(cohort, profiles)]
    return sorted(found, key=_group_order)


def _group_order(group: OutlierGroup) -> tuple[object, ...]:
    values = [(value.what, value.value) for value in group.values]
    badness = ("", *BEST_FIRST).index(group.status())
    return -badness, len(group.hosts), group.model, group.kernel, values


def _of_cohort(cohort: Cohort, profiles: dict[Profile, list[HostRow]]) -> Iterator[OutlierGroup]:
    size = sum(map(len, profiles.values()))
    if size < SMALLEST:
        return
    compared = {profile: dict(_compared_values(profile)) for profile in profiles}
    counts: dict[str, dict[str, int]] = {}
    for profile, values in compared.items():
        for what, value in values.items():
            numbers = counts.setdefault(what, {})
            numbers[value] = numbers.get(value, 0) + len(profiles[profile])
    usual = {what: max(numbers, key=lambda value: (numbers[value], value)) for what, numbers in counts.items()}
    groups: dict[tuple[tuple[str, str], ...], OutlierGroup] = {}
    for profile, values in compared.items():
        unusual = [
            UnusualValue(what, value, usual[what], counts[what][usual[what]])
            for what, value in values.items()
            if _is_unusual(counts[what][value], counts[what][usual[what]], size)
        ]
        if unusual:
            key = tuple((one.what, one.value) for one in unusual)
            groups.setdefault(key, OutlierGroup(cohort, size, unusual)).hosts += profiles[profile]
    for group in groups.values():
        group.hosts.sort(key=row_order)
        yield group


def _is_unusual(number: int, most: int, size: int) -> bool:
    """Whether few hosts have a value (`number`) and a clear majority of the cohort has the usual one (`most`)."""
    part, whole = _MAJORITY
    return most * whole >= size * part and (number == 1 or number * FEW <= size) and number < most


def _compared_values(profile: Profile) -> Iterator[tuple[str, str]]:
    """What similar hosts have in common. All confirmed verdicts are equal here; unknown values are not compared."""
    status = profile.status
    yield _VERDICT, status if status == "confirmed" else f"{status} {profile.reason}"
    yield "CPUs online", UNKNOWN if profile.cpus is None else str(profile.cpus)
    for what, value in (("microcode", profile.microcode), ("lockdown", profile.lockdown)):
        if value != UNKNOWN:
            yield what, value
    warned = [id for id, mark in zip(CHECK_IDS, profile.marks) if mark == MARKS["warn"]]
    yield "warnings", ", ".join(warned) or "none"
    for parameter in profile.parameters:
        name, _, value = parameter.partition("=")
        yield name, value
