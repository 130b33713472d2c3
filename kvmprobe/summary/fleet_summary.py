"""What a summary says, and as data for tools (summary.schema.json)."""

from __future__ import annotations

import time
from collections.abc import Sequence

from kvmprobe import TYPE_CHECKING, __version__
from kvmprobe.formats.host_row import Host
from kvmprobe.model.reasons import REASONS
from kvmprobe.model.times import SKEW_S, format_time
from kvmprobe.summary import outliers
from kvmprobe.summary.fleet import Fleet, natural

if TYPE_CHECKING:
    from kvmprobe.summary.outliers import Difference, Odd


SCHEMA = "kvmprobe.summary/1"


class Summary:
    """`only`: verdicts and reasons whose hosts are asked for by name; `max_age`: seconds after which a report is no
    answer any more; `expected`: the names of all hosts there should be; `others`: files that were left alone."""

    def __init__(
        self,
        fleet: Fleet,
        only: Sequence[str] = (),
        max_age: float | None = None,
        expected: Sequence[str] = (),
        others: int = 0,
    ) -> None:
        self.fleet = fleet
        self.others = others
        self.hosts = fleet.hosts()
        self.counts = fleet.counts()
        self.odd = outliers.find(self.hosts)
        self.only = only
        self.chosen = [host for host in self.hosts if {host.profile.status, host.profile.reason}.intersection(only)]
        self.stale = self._stale(max_age) if max_age is not None else []
        names = fleet.names() if expected else set()
        self.missing = sorted(set(expected) - names, key=natural)

    def _stale(self, max_age: float) -> list[Host]:
        """Those too old; a time to come is no answer either: that host's clock is wrong."""
        now = time.time()
        oldest, latest = format_time(now - max_age), format_time(now + SKEW_S)
        return [host for host in self.hosts if not oldest <= host.taken_at <= latest]

    def label(self, host: Host) -> str:
        """What to call a host where several reports may have its name."""
        return f"{host.name} ({host.file}{f':{host.line}' if host.line else ''})" if self.fleet.every else host.name

    def exit_status(self) -> int:
        return self.fleet.exit_status(bool(self.stale or self.missing))

    def data(self, every: bool) -> dict[str, object]:
        """For tools. `every`: with all hosts, not only with those that were asked for."""
        fleet = self.fleet
        return {
            "schema": SCHEMA,
            "tool": {"name": "kvmprobe", "version": __version__},
            "reports": {
                "read": fleet.reports,
                "older": fleet.reports - len(self.hosts),
                "judged_anew": fleet.judged,
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
            "odd": [_odd(one) for one in self.odd],
            "stale": [{"host": host.name, "taken_at": host.taken_at} for host in self.stale],
            "missing": self.missing,
            "several_machines": fleet.several_machines(),
            "failed_elsewhere": fleet.failed_elsewhere(),
            "hosts": [_host(host) for host in (self.hosts if every else self.chosen)],
            "bad": [{"file": file, "line": line or None, "error": why} for file, line, why in fleet.bad()],
        }


def hint(host: Host) -> str:
    """What to do about a host: its report's own words, or the reason's."""
    return host.hint or REASONS[host.profile.reason].hint


def _odd(one: Odd) -> dict[str, object]:
    first = one.hosts[0]
    return {
        "hosts": [host.name for host in one.hosts],
        "crowd": {"model": one.model, "kernel": one.kernel, "hosts": one.size},
        "differences": [_difference(difference) for difference in one.differences],
        "verdict": {
            "status": first.profile.status,
            "reason": first.profile.reason,
            "summary": first.summary,
            "hint": hint(first),
        },
    }


def _difference(difference: Difference) -> dict[str, object]:
    return {
        "what": difference.what,
        "value": difference.value,
        "usual": difference.usual,
        "usual_hosts": difference.number,
    }


def _host(host: Host) -> dict[str, object]:
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
