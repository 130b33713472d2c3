"""All hosts with their newest reports. Memory grows with the number of hosts, not with the number or size of reports.

The result does not depend on the order in which the reports are read.
"""

from __future__ import annotations

import re

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats import host_row
from kvmprobe.formats.host_row import HostRow, Profile
from kvmprobe.model.errors import EXIT_CONFIRMED, EXIT_DATA, EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_NOT_APPLICABLE
from kvmprobe.model.verdict_status import GOOD

if TYPE_CHECKING:
    from typing import Any

    from kvmprobe.formats.host_row import Details, RowValues
    from kvmprobe.summary.report_records import Bad

    Kept = tuple[str, str, int, Profile, Details]  # time, file, line, profile, details


_SPARE = 1000  # details that are remembered beyond those of the hosts
NAMED = 1000  # files and lines that could not be read and are remembered by name


class Fleet:
    """Hosts by name. With `every_report` each report counts as a host of its own, not only the newest of each name."""

    def __init__(self, every_report: bool = False) -> None:
        self.every_report = every_report
        self.reports = 0
        self.judged = 0
        self.bad_count = 0
        self._bad: Bad = []
        self._hosts: dict[Any, Kept] = {}
        self._profiles: dict[tuple[Any, ...], Profile] = {}
        self._details: dict[Details, Details] = {}
        self._several_models: set[str] = set()
        self._failed: set[str] = set()  # the host names with a report that has failed

    def add(self, file: str, line: int, values: RowValues) -> None:
        """Adds a report that is in `file` (at `line`, where the file has several; else 0)."""
        name, taken_at, fields, details = values
        profile = self._profiles.get(fields)
        if profile is None:
            profile = self._profiles[fields] = Profile(*fields)
        kept: Kept = (taken_at, file, line, profile, details)
        self.reports += 1
        key = (name, file, line) if self.every_report else name
        if profile.status == "failed" and not self.every_report:
            self._failed.add(name)
        other = self._hosts.get(key)
        if other is not None:
            if other[3].model != profile.model:
                self._several_models.add(name)
            if _rank(other) >= _rank(kept):
                return
        self._hosts[key] = (*kept[:4], self._details.setdefault(details, details))
        if len(self._details) > 2 * len(self._hosts) + _SPARE:  # messages with PIDs, which no host has any longer
            self._details = {kept[4]: kept[4] for kept in self._hosts.values()}

    def add_bad(self, bad: Bad) -> None:
        """Adds what could not be read: file, line, why. All are counted; the first NAMED by name are remembered."""
        self.bad_count += len(bad)
        self._bad += bad
        if len(self._bad) > 2 * NAMED:
            self._bad = sorted(self._bad)[:NAMED]

    def bad(self) -> Bad:
        """What could not be read, sorted; at most NAMED."""
        return sorted(self._bad)[:NAMED]

    def several_models(self) -> list[str]:
        """The host names whose reports differ in the CPU model: perhaps several machines share the name."""
        return sorted(self._several_models, key=natural)

    def failed_earlier(self) -> list[str]:
        """The host names with an older report that has failed and a newest one that has not: the host was fixed, or
        another machine has the same name."""
        return sorted((name for name in self._failed if self._hosts[name][3].status != "failed"), key=natural)

    def names(self) -> set[str]:
        """The names of all hosts."""
        return {key[0] for key in self._hosts} if self.every_report else set(self._hosts)

    def hosts(self) -> list[HostRow]:
        """All hosts in the natural order of their names."""
        found = [
            HostRow(key[0] if self.every_report else key, taken_at, file, line, profile, details)
            for key, (taken_at, file, line, profile, details) in self._hosts.items()
        ]
        return sorted(found, key=row_order)

    def counts(self) -> dict[str, dict[str, int]]:
        """See host_row.counts."""
        numbers: dict[Profile, int] = {}
        for kept in self._hosts.values():
            numbers[kept[3]] = numbers.get(kept[3], 0) + 1
        return host_row.counts(numbers.items())

    def span(self) -> tuple[str, str] | None:
        """The times of the oldest and the newest report that count; None without a report."""
        times = [kept[0] for kept in self._hosts.values()]
        return (min(times), max(times)) if times else None

    def exit_status(self, has_unknown: bool) -> int:
        """The exit status: a failed host has priority, then a file that could not be read, then a host that is
        inconclusive or of which something else is unknown (`has_unknown`)."""
        statuses = self.counts()["status"]
        if "failed" in statuses:
            return EXIT_FAILED
        if self.bad_count:
            return EXIT_DATA
        if has_unknown or "inconclusive" in statuses:
            return EXIT_INCONCLUSIVE
        return EXIT_CONFIRMED if statuses.keys() & set(GOOD) else EXIT_NOT_APPLICABLE


def _rank(kept: Kept) -> tuple[object, ...]:
    """The report with the highest rank counts: the newest; of several with the same time one that has failed. The
    rest of the key makes the choice independent of the order in which they are read."""
    taken_at, file, line, profile, details = kept
    return (
        taken_at,
        profile.status == "failed",
        file,
        line,
        profile.reason,
        profile.kernel,
        profile.version,
        profile.marks,
        profile.requirements,
        repr(details),
    )


def row_order(host: HostRow) -> tuple[object, ...]:
    """The key that sorts rows by name."""
    return natural(host.name), host.file, host.line


_DIGITS = re.compile(r"([0-9]+)")


def natural(name: str) -> tuple[tuple[int, str, str], ...]:
    """The key that sorts node9 before node10. It avoids int(), which refuses thousands of digits."""
    parts = _DIGITS.split(name)
    numbers = [part.lstrip("0") for part in parts]
    return tuple(
        (1 + len(number), number, part) if index % 2 else (0, part, "")
        for index, (part, number) in enumerate(zip(parts, numbers))
    )
