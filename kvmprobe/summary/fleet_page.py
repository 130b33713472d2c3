"""A summary as an HTML page (formats/html.py)."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats import html
from kvmprobe.formats.host_row import HostRow
from kvmprobe.model.printable import counted
from kvmprobe.model.verdict_status import GOOD
from kvmprobe.summary.fleet_summary import Summary, equal_verdicts, hint
from kvmprobe.summary.summary_text import where

if TYPE_CHECKING:
    from typing import Any

    from kvmprobe.summary.outliers import OutlierGroup


HOSTS = 10000  # in a page of 1 MiB, which opens in a second and sorts in 0.1 s
_VALUES = 50  # of a count, listed one by one
_NAMES, _FEW_NAMES = 100, 8  # of a list, and beside a text
_TEXTS = 20  # of a group of outliers
_ENTRIES = 100  # groups of outliers; files that could not be read
_NOTHING_TO_DO = (*GOOD, "not applicable")


def render(summary: Summary) -> str:
    """The page: failed hosts first, then inconclusive ones, then all others in the order of their names.

    Of a fleet larger than HOSTS it has the hosts that need attention and a sample of the others.
    """
    outliers = [host for group in summary.outliers for host in group.hosts]
    hosts = summary.chosen if summary.only else summary.hosts
    chosen = sorted(choose(hosts, set(outliers)), key=_badness)
    return html.page(
        {
            "total": len(summary.hosts),
            "taken": summary.fleet.span(),
            "counts": {field: _most_frequent(values) for field, values in summary.counts.items()},
            "outliers": [_outlier_data(group) for group in summary.outliers[:_ENTRIES]],
            "notes": list(_notes(summary, len(hosts), len(chosen))),
            "bad": [[where(file, line), why] for file, line, why in summary.fleet.bad()[:_ENTRIES]],
            **html.table(chosen, outliers),
        }
    )


def choose(hosts: list[HostRow], outliers: set[HostRow]) -> list[HostRow]:
    """At most HOSTS of `hosts`, in their order: those that failed, then outliers and those that are inconclusive, then
    an even sample of the others."""
    if len(hosts) <= HOSTS:
        return hosts
    first = [host for host in hosts if host in outliers or host.profile.status not in _NOTHING_TO_DO]
    first.sort(key=lambda host: host.profile.status != "failed")
    chosen = set(first[:HOSTS])
    others = [host for host in hosts if host not in chosen]
    room = HOSTS - len(chosen)
    chosen |= {others[index * len(others) // room] for index in range(room)}
    return [host for host in hosts if host in chosen]


def _badness(host: HostRow) -> int:
    """The place of a host's verdict in the order of the table."""
    return {"failed": 0, "inconclusive": 1}.get(host.profile.status, 2)


def _most_frequent(values: dict[str, int]) -> dict[str, int]:
    """The _VALUES most frequent values; all others together are the value ""."""
    if len(values) <= _VALUES:
        return values
    first = dict(list(values.items())[:_VALUES])
    return {**first, "": sum(values.values()) - sum(first.values())}


def _notes(summary: Summary, asked: int, listed: int) -> Iterator[str]:
    fleet = summary.fleet
    if summary.only:
        only = " or ".join(summary.only)
        yield f"The table has only the {asked:,} hosts that are {only}. The counts are of all hosts."
    if listed < asked:
        yield (
            f"The table has {listed:,} of {asked:,} hosts: those that failed, then outliers and those that are "
            "inconclusive, then a sample of the others. The counts are of all hosts."
        )
    if older := summary.older():
        yield f"{counted(older, 'older report')} of the same hosts skipped."
    if summary.missing:
        yield f"No report from {counted(len(summary.missing), 'host')}: {_names(summary.missing)}"
    if summary.stale:
        stale = counted(len(summary.stale), "host")
        yield f"Report older than --max-age, or from the future: {stale}: {_names([one.name for one in summary.stale])}"
    if several := fleet.several_models():
        yield f"One host name, different CPU models, so these may be different machines: {_names(several)}"
    if failed := fleet.failed_earlier():
        yield f"Failed in an older report, so fixed since, or another machine has the same name: {_names(failed)}"
    if fleet.bad_count:
        yield f"{fleet.bad_count:,} files or records could not be read."


def _names(names: list[str], most: int = _NAMES) -> str:
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _outlier_data(group: OutlierGroup) -> dict[str, Any]:
    """`texts`: number and names of hosts, and their summary and hint; none where the verdict is usual."""
    texts = equal_verdicts(group.hosts)[:_TEXTS] if group.status() else []
    return {
        "status": group.status(),
        "names": [host.name for host in group.hosts[:_NAMES]],
        "number": len(group.hosts),
        "model": group.model,
        "kernel": group.kernel,
        "size": group.size,
        "differences": [[one.what, one.value, one.usual, one.number] for one in group.values],
        "texts": [
            [
                len(hosts),
                _names([host.name for host in hosts], _FEW_NAMES),
                hosts[0].summary,
                hint(hosts[0]) if group.status() != "confirmed" else "",
            ]
            for hosts in texts
        ],
    }
