"""Hosts that differ from the crowd: from most of those with the same CPU model and the same kernel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats.host_row import CHECK_IDS, MARKS, UNKNOWN, Host, Profile
from kvmprobe.summary.fleet import natural

if TYPE_CHECKING:
    Crowd = tuple[str, str]  # model, kernel


SMALLEST = 3  # of fewer hosts none is a crowd
FEW = 10  # an odd value has at most one host in so many, or one host alone
VERDICTS = ("failed", "inconclusive", "not applicable", "confirmed")  # the worst first


class Difference:
    """In `what` ("microcode", "kvm_amd.npt", …) a host is `value`, while `number` others of its crowd are `usual`."""

    def __init__(self, what: str, value: str, usual: str, number: int) -> None:
        self.what = what
        self.value = value
        self.usual = usual
        self.number = number


class Odd:
    """Hosts of one crowd that are odd in the same way. `size`: of the crowd, they themselves included."""

    def __init__(self, crowd: Crowd, size: int, differences: list[Difference]) -> None:
        self.model, self.kernel = crowd
        self.size = size
        self.differences = differences
        self.hosts: list[Host] = []

    def status(self) -> str:
        """The verdict, where that is odd; else empty."""
        return self.hosts[0].profile.status if self.differences[0].what == _VERDICT else ""


def find(hosts: Iterable[Host]) -> list[Odd]:
    """The odd ones among `hosts`, which come in the order in which they are to be named.

    A worse verdict first, then the fewest.
    """
    crowds: dict[Crowd, dict[Profile, list[Host]]] = {}
    for host in hosts:
        crowd = crowds.setdefault((host.profile.model, host.profile.kernel), {})
        crowd.setdefault(host.profile, []).append(host)
    found = [odd for crowd, profiles in crowds.items() for odd in _of_crowd(crowd, profiles)]
    statuses = (*VERDICTS, "")
    return sorted(
        found, key=lambda odd: (statuses.index(odd.status()), len(odd.hosts), odd.model, odd.kernel, _shown(odd))
    )


def _shown(odd: Odd) -> list[tuple[str, str]]:
    return [(difference.what, difference.value) for difference in odd.differences]


def _of_crowd(crowd: Crowd, profiles: dict[Profile, list[Host]]) -> Iterator[Odd]:
    size = sum(map(len, profiles.values()))
    if size < SMALLEST:
        return
    features = {profile: dict(_features(profile)) for profile in profiles}
    counts: dict[str, dict[str, int]] = {}
    for profile, values in features.items():
        for what, value in values.items():
            numbers = counts.setdefault(what, {})
            numbers[value] = numbers.get(value, 0) + len(profiles[profile])
    usual = {what: max(numbers, key=lambda value: (numbers[value], value)) for what, numbers in counts.items()}
    found: dict[tuple[tuple[str, str], ...], Odd] = {}
    for profile, values in features.items():
        differences = [
            Difference(what, value, usual[what], counts[what][usual[what]])
            for what, value in values.items()
            if _is_odd(counts[what][value], counts[what][usual[what]], size)
        ]
        if differences:
            key = tuple((difference.what, difference.value) for difference in differences)
            odd = found.setdefault(key, Odd(crowd, size, differences))
            odd.hosts += profiles[profile]
    for odd in found.values():
        odd.hosts.sort(key=lambda host: (natural(host.name), host.file, host.line))
        yield odd


def _is_odd(number: int, most: int, size: int) -> bool:
    """Most of the crowd agree, and these are few."""
    return most * 2 > size and (number == 1 or number * FEW <= size) and number < most


_VERDICT = "verdict"


def _features(profile: Profile) -> Iterator[tuple[str, str]]:
    """What hosts that are alike have alike. What is unknown is not odd; all that is confirmed is the same."""
    status = profile.status
    yield _VERDICT, status if status == "confirmed" else f"{status} {profile.reason}"
    yield "CPUs online", str(profile.cpus)
    for what, value in (("microcode", profile.microcode), ("lockdown", profile.lockdown)):
        if value != UNKNOWN:
            yield what, value
    warned = [id for id, mark in zip(CHECK_IDS, profile.marks) if mark == MARKS["warn"]]
    yield "warnings", ", ".join(warned) or "none"
    for parameter in profile.parameters:
        name, _, value = parameter.partition("=")
        yield name, value
