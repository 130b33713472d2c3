"""All hosts by their latest reports. Memory grows with the number of hosts, not with that of the reports or their size.

Nothing depends on the order in which reports are read.
"""

from __future__ import annotations

import re

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats import host_row
from kvmprobe.formats.host_row import Host, Profile
from kvmprobe.model.errors import EXIT_CONFIRMED, EXIT_DATA, EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_NOT_APPLICABLE

if TYPE_CHECKING:
    from typing import Any

    from kvmprobe.formats.host_row import Digest
    from kvmprobe.summary.report_records import Bad

    Kept = tuple[str, str, int, Profile, Any]  # time, file, line, profile, told


_SPARE = 1000  # what is remembered besides what the hosts have
NAMED = 1000  # damaged files, and names of several machines, that are remembered by name


class Fleet:
    """`every`: each report counts, not only the latest of a host name."""

    def __init__(self, every: bool = False) -> None:
        self.every = every
        self._hosts: dict[Any, Kept] = {}
        self._profiles: dict[tuple[Any, ...], Profile] = {}
        self._told: dict[Any, Any] = {}
        self._machines: set[str] = set()
        self._failed: set[str] = set()  # names of which some report says so
        self._bad: Bad = []
        self.bad_count = 0
        self.reports = 0
        self.judged = 0

    def add(self, file: str, line: int, found: Digest) -> None:
        """A report, found in `file` at `line`."""
        name, taken_at, fields, told = found
        profile = self._profiles.get(fields)
        if profile is None:
            profile = self._profiles[fields] = Profile(*fields)
        kept: Kept = (taken_at, file, line, profile, told)
        self.reports += 1
        key = (name, file, line) if self.every else name
        if profile.status == "failed" and not self.every:
            self._failed.add(name)
        other = self._hosts.get(key)
        if other is not None:
            if other[3].model != profile.model:
                self._machines.add(name)
            if _rank(other) >= _rank(kept):
                return
        self._hosts[key] = (*kept[:4], self._told.setdefault(told, told))
        if len(self._told) > 2 * len(self._hosts) + _SPARE:  # what nobody tells any more, with PIDs in it, say
            self._told = {kept[4]: kept[4] for kept in self._hosts.values()}

    def add_bad(self, bad: Bad) -> None:
        """What could not be read: file, line, why. All are counted; the first by name are remembered."""
        self.bad_count += len(bad)
        self._bad += bad
        if len(self._bad) > 2 * NAMED:
            self._bad = sorted(self._bad)[:NAMED]

    def bad(self) -> Bad:
        return sorted(self._bad)[:NAMED]

    def several_machines(self) -> list[str]:
        """Names whose reports are of different CPU models, so perhaps of different machines."""
        return sorted(self._machines, key=natural)

    def failed_elsewhere(self) -> list[str]:
        """Names of which a report that was left out says "failed", and the latest does not: mended, or two machines."""
        return sorted((name for name in self._failed if self._hosts[name][3].status != "failed"), key=natural)

    def size(self) -> int:
        return len(self._hosts)

    def names(self) -> set[str]:
        return {key[0] for key in self._hosts} if self.every else set(self._hosts)

    def hosts(self) -> list[Host]:
        """By name, as people sort them."""
        found = [
            Host(key[0] if self.every else key, taken_at, file, line, profile, told)
            for key, (taken_at, file, line, profile, told) in self._hosts.items()
        ]
        return sorted(found, key=lambda host: (natural(host.name), host.file, host.line))

    def profiles(self) -> list[tuple[Profile, int]]:
        """Each profile that some host has, and how many have it."""
        numbers: dict[Profile, int] = {}
        for kept in self._hosts.values():
            numbers[kept[3]] = numbers.get(kept[3], 0) + 1
        return list(numbers.items())

    def counts(self) -> dict[str, dict[str, int]]:
        return host_row.counts(self.profiles())

    def span(self) -> tuple[str, str] | None:
        """The time of the oldest and of the latest of the hosts' reports."""
        times = [kept[0] for kept in self._hosts.values()]
        return (min(times), max(times)) if times else None

    def exit_status(self, unknown: bool) -> int:
        """What failed is never hidden; then what could not be read; then what is `unknown` of some host."""
        statuses = self.counts()["status"]
        if "failed" in statuses:
            return EXIT_FAILED
        if self.bad_count:
            return EXIT_DATA
        if unknown or "inconclusive" in statuses:
            return EXIT_INCONCLUSIVE
        return EXIT_CONFIRMED if "confirmed" in statuses else EXIT_NOT_APPLICABLE


def _rank(kept: Kept) -> tuple[object, ...]:
    """The latest report is the highest; of one time what failed; the same one in whatever order they are read."""
    taken_at, file, line, profile, told = kept
    return (
        taken_at,
        profile.status == "failed",
        file,
        line,
        profile.reason,
        profile.kernel,
        profile.version,
        profile.marks,
        repr(told),
    )


_DIGITS = re.compile(r"([0-9]+)")


def natural(name: str) -> tuple[tuple[int, str, str], ...]:
    """The key by which node9 comes before node10. Not by int(), which refuses thousands of digits."""
    parts = _DIGITS.split(name)
    numbers = [part.lstrip("0") for part in parts]
    return tuple(
        (1 + len(number), number, part) if index % 2 else (0, part, "")
        for index, (part, number) in enumerate(zip(parts, numbers))
    )
