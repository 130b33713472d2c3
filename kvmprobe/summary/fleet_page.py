"""A summary as a page to look at (formats/html.py)."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats import html
from kvmprobe.formats.host_row import Host
from kvmprobe.summary.fleet_summary import Summary, hint
from kvmprobe.summary.summary_text import where

if TYPE_CHECKING:
    from typing import Any

    from kvmprobe.summary.outliers import Odd


HOSTS = 10000  # in a page of 1 MiB, which opens in a second; sorting takes 0.1 s
_VALUES = 50  # of a count, told one by one
_NAMES = 100  # of a list
_ENTRIES = 100  # odd kinds, damaged files


def render(summary: Summary) -> str:
    """The page; of a fleet larger than HOSTS those worth a look, and a sample of the rest."""
    odd = [host for one in summary.odd for host in one.hosts]
    hosts = summary.chosen if summary.only else summary.hosts
    shown = choose(hosts, set(odd))
    return html.page(
        {
            "total": len(summary.hosts),
            "taken": summary.fleet.span(),
            "counts": {field: _most(values) for field, values in summary.counts.items()},
            "outliers": [_odd(one) for one in summary.odd[:_ENTRIES]],
            "notes": list(_notes(summary, len(hosts), len(shown))),
            "bad": [[where(file, line), why] for file, line, why in summary.fleet.bad()[:_ENTRIES]],
            **html.table(shown, odd),
        }
    )


def choose(hosts: list[Host], odd: set[Host]) -> list[Host]:
    """At most HOSTS of `hosts`, in their order: first those worth a look, then each so many-th of the others."""
    if len(hosts) <= HOSTS:
        return hosts
    worth = [host for host in hosts if host in odd or host.profile.status not in ("confirmed", "not applicable")]
    worth.sort(key=lambda host: host.profile.status != "failed")
    known = set(worth[:HOSTS])
    others = [host for host in hosts if host not in known]
    room = HOSTS - len(known)
    sample = {others[index * len(others) // room] for index in range(room)}
    return [host for host in hosts if host in known or host in sample]


def _most(values: dict[str, int]) -> dict[str, int]:
    """The most frequent values; the rest as one."""
    if len(values) <= _VALUES:
        return values
    shown = dict(list(values.items())[:_VALUES])
    return {**shown, "": sum(values.values()) - sum(shown.values())}


def _notes(summary: Summary, asked: int, shown: int) -> Any:
    fleet = summary.fleet
    if summary.only:
        yield f"Only the {asked:,} hosts that are {' or '.join(summary.only)} are in the table; the counts are of all."
    if shown < asked:
        yield (
            f"{shown:,} of {asked:,} hosts are in the table: those that failed first, the odd ones and those "
            "that are inconclusive, then a sample of the others; the counts are of all."
        )
    if older := fleet.reports - len(summary.hosts):
        yield f"{older:,} older reports of the same hosts are left out."
    if summary.missing:
        yield f"No report of {len(summary.missing):,} expected: {_names(summary.missing)}"
    if summary.stale:
        yield f"Too old, or from the future, {len(summary.stale):,}: {_names([host.name for host in summary.stale])}"
    if several := fleet.several_machines():
        yield f"One name, different CPU models, so perhaps different machines: {_names(several)}"
    if failed := fleet.failed_elsewhere():
        yield f"Failed in a report that was left out, so mended, or two machines of one name: {_names(failed)}"
    if fleet.bad_count:
        yield f"{fleet.bad_count:,} could not be read."


def _names(names: list[str]) -> str:
    rest = f" and {len(names) - _NAMES:,} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + rest


def _odd(one: Odd) -> dict[str, Any]:
    first = one.hosts[0]
    return {
        "status": one.status(),
        "names": [host.name for host in one.hosts[:_NAMES]],
        "number": len(one.hosts),
        "model": one.model,
        "kernel": one.kernel,
        "size": one.size,
        "differences": [[d.what, d.value, d.usual, d.number] for d in one.differences],
        "summary": first.summary if one.status() else "",
        "hint": hint(first) if one.status() not in ("", "confirmed") else "",
    }
