"""The content of a summary, and its JSON (summary.schema.json)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from kvmprobe import TYPE_CHECKING, __version__
from kvmprobe.formats.host_row import HostRow
from kvmprobe.model.reasons import REASONS
from kvmprobe.model.times import SKEW_S, format_time
from kvmprobe.summary.fleet import Fleet, natural
from kvmprobe.summary.outliers import find_outliers

if TYPE_CHECKING:
    from kvmprobe.summary.outliers import OutlierGroup, UnusualValue


SCHEMA = "kvmprobe.summary/1"


class Summary:
    """A fleet, and what the options ask about it.

    `only`: the verdicts and reasons whose hosts are listed. `max_age`: in seconds; an older report is stale.
    `expected`: the names of all hosts that should have a report. `ignored`: how many files were not read because they
    cannot be reports.
    """

    def __init__(
        self,
        fleet: Fleet,
        only: Sequence[str] = (),
        max_age: float | None = None,
        expected: Sequence[str] = (),
        ignored: int = 0,
    ) -> None:
        self.fleet = fleet
        self.only = only
        self.ignored = ignored
        self.hosts = fleet.hosts()
        self.counts = fleet.counts()
        self.outliers = find_outliers(self.hosts)
        self.chosen = [host for host in self.hosts if {host.profile.status, host.profile.reason}.intersection(only)]
        self.stale = self._stale(max_age) if max_age is not None else []
        self.missing = sorted(set(expected) - fleet.names(), key=natural)

    def _stale(self, max_age: float) -> list[HostRow]:
        """The hosts whose report is too old, or from the future: then the clock of that host is wrong."""
        now = time.time()
        oldest, newest = format_time(now - max_age), format_time(now + SKEW_S)
        return [host for host in self.hosts if not oldest <= host.taken_at <= newest]

    def answers(self) -> dict[str, dict[str, list[HostRow]]]:
        """By requirement, as it was asked, and by answer ("met", "not-met", "unknown"): the hosts."""
        found: dict[str, dict[str, list[HostRow]]] = {}
        for host in self.hosts:
            for name, status in host.profile.requirements:
                found.setdefault(name, {"met": [], "not-met": [], "unknown": []})[status].append(host)
        return found

    def older(self) -> int:
        """How many reports do not count because their hosts have newer ones."""
        return self.fleet.reports - len(self.hosts)

    def label(self, host: HostRow) -> str:
        """A name for the host that no other row has."""
        if not self.fleet.every_report:
            return host.name
        return f"{host.name} ({host.file}{f':{host.line}' if host.line else ''})"

    def exit_status(self) -> int:
        """The exit status of the command."""
        return self.fleet.exit_status(bool(self.stale or self.missing))

    def data(self, every_host: bool) -> dict[str, object]:
        """The summary as JSON has it; with `every_host`, not only with those of `only`."""
        fleet = self.fleet
        return {
            "schema": SCHEMA,
            "tool": {"name": "kvmprobe", "version": __version__},
            "reports": {
                "read": fleet.reports,
                "older": self.older(),
                "judged_again": fleet.judged,
                "bad": fleet.bad_count,
            },
            "taken": fleet.span(),
            "counts": {
                "hosts": len(self.hosts),
                **{
                    field: [{"value": value, "hosts": number} for value, number in values.items()]
                    for field, values in self.counts.items()
                },
            },
            "requirements": [
                {"name": name, **{status: [self.label(host) for host in hosts] for status, hosts in by_status.items()}}
                for name, by_status in self.answers().items()
            ],
            "outliers": [_outlier_data(group) for group in self.outliers],
            "stale": [{"host": host.name, "taken_at": host.taken_at} for host in self.stale],
            "missing": self.missing,
            "several_models": fleet.several_models(),
            "failed_earlier": fleet.failed_earlier(),
            "hosts": [_host_data(host) for host in (self.hosts if every_host else self.chosen)],
            "bad": [{"file": file, "line": line or None, "error": why} for file, line, why in fleet.bad()],
        }


def hint(host: HostRow) -> str:
    """What to do about a host: the hint of its report, or of its reason."""
    return host.hint or REASONS[host.profile.reason].hint


def equal_verdicts(hosts: Iterable[HostRow]) -> list[list[HostRow]]:
    """The hosts in groups that have the same status, reason, summary and hint; the largest group first.

    What one host's verdict states is true of that host only. So whoever shows a verdict of several hosts asks here.
    """
    groups: dict[tuple[str, str, str, str], list[HostRow]] = {}
    for host in hosts:
        key = host.profile.status, host.profile.reason, host.summary, hint(host)
        groups.setdefault(key, []).append(host)
    return sorted(groups.values(), key=len, reverse=True)


def _outlier_data(group: OutlierGroup) -> dict[str, object]:
    return {
        "hosts": [host.name for host in group.hosts],
        "cohort": {"model": group.model, "kernel": group.kernel, "hosts": group.size},
        "unusual": [_value_data(value) for value in group.values],
        "verdicts": [_verdict_data(hosts) for hosts in equal_verdicts(group.hosts)],
    }


def _verdict_data(hosts: list[HostRow]) -> dict[str, object]:
    """The verdict that all of `hosts` have."""
    profile = hosts[0].profile
    return {
        "hosts": [host.name for host in hosts],
        "status": profile.status,
        "reason": profile.reason,
        "summary": hosts[0].summary,
        "hint": hint(hosts[0]),
    }


def _value_data(value: UnusualValue) -> dict[str, object]:
    return {"what": value.what, "value": value.value, "usual": value.usual, "usual_hosts": value.number}


def _host_data(host: HostRow) -> dict[str, object]:
    profile = host.profile
    return {
        "host": host.name,
        "taken_at": host.taken_at,
        "file": host.file,
        "line": host.line or None,
        "status": profile.status,
        "reason": profile.reason,
        "summary": host.summary,
        "hint": hint(host),
        "kernel": profile.kernel,
        "model": profile.model,
        "microcode": profile.microcode,
        "cpus": profile.cpus,
        "version": profile.version,
    }
