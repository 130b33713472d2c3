"""A summary for people: the odd ones first, then what counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from kvmprobe.formats.host_row import Host
from kvmprobe.model.errors import EXIT_CONFIRMED, EXIT_DATA, EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_NOT_APPLICABLE
from kvmprobe.model.printable import clean
from kvmprobe.model.reasons import REASONS
from kvmprobe.summary.fleet_summary import Summary, hint
from kvmprobe.summary.outliers import VERDICTS

_BOLD, _OFF = "\033[1m", "\033[0m"
_COLOURS = {"failed": "\033[31m", "inconclusive": "\033[33m", "not applicable": "\033[36m", "confirmed": "\033[32m"}
_ODD = "\033[33m"
# The last line says what the exit status says.
_HEADS = {
    EXIT_CONFIRMED: "confirmed",
    EXIT_FAILED: "failed",
    EXIT_INCONCLUSIVE: "inconclusive",
    EXIT_NOT_APPLICABLE: "not applicable",
    EXIT_DATA: "incomplete",
}
_NAMES, _ENTRIES = 8, 20  # that are told without -v
_TITLES = {"kernel": "Kernel", "model": "CPU model", "microcode": "Microcode", "version": "Made by kvmprobe"}

Paint = Callable[[str, str], str]


def render(summary: Summary, verbose: int = 0, colour: bool = False) -> str:
    """`verbose`: -1 the last line alone (with --only the names alone), 0 lists cut short, 1 all of them."""

    def paint(text: str, code: str) -> str:
        return f"{code}{text}{_OFF}" if colour else text

    if summary.only:
        lines = _chosen(summary, verbose, paint)
    elif verbose < 0:
        lines = iter((_last(summary, paint),))
    else:
        lines = _whole(summary, verbose, paint)
    return "".join(f"{line}\n" for line in lines)


def _whole(summary: Summary, verbose: int, paint: Paint) -> Iterator[str]:
    yield from _head(summary)
    yield ""
    sections = (_odd, _reasons, _counts, _unknown, _bad)
    for section in sections:
        lines = list(section(summary, verbose, paint))
        if lines:
            yield from (*lines, "")
    yield _last(summary, paint)


def _head(summary: Summary) -> Iterator[str]:
    fleet = summary.fleet
    span = fleet.span()
    taken = f", taken {span[0]} to {span[1]}" if span else ""
    yield f"{_number(len(summary.hosts), 'host')}{taken}"
    notes = [f"{_number(fleet.reports, 'report')} read"]
    if older := fleet.reports - len(summary.hosts):
        notes.append(f"{older:,} left out, as their hosts have later ones")
    if fleet.judged:
        notes.append(f"{fleet.judged:,} judged anew")
    if summary.others:
        notes.append(f"{_number(summary.others, 'other file')} in the folders left alone")
    yield "; ".join(notes)


def _odd(summary: Summary, verbose: int, paint: Paint) -> Iterator[str]:
    entries = summary.odd if verbose > 0 else summary.odd[:_ENTRIES]
    if entries:
        yield paint("Odd ones out", _BOLD) + ": unlike most hosts with the same CPU model and kernel"
    for one in entries:
        status = one.status()
        mark = paint(f"[{status.upper() or 'ODD':^14}]", _COLOURS.get(status, _ODD))
        yield f"{mark} {_names(summary, one.hosts, verbose)}"
        yield clean(f"  of {one.size:,} hosts with {one.model}, Linux {one.kernel}")
        for d in one.differences:
            yield clean(f"  {d.what}: {d.value} (usual: {d.usual}, on {_number(d.number, 'host')})")
        if status not in ("", "confirmed"):
            yield clean(f"  {one.hosts[0].summary}")
            yield clean(f"  what to do: {hint(one.hosts[0])}")
    if rest := len(summary.odd) - len(entries):
        yield f"and {rest:,} more kinds (-v names them)"


def _reasons(summary: Summary, verbose: int, paint: Paint) -> Iterator[str]:
    """By verdict, the worst first. Where there is something to do, hosts are named unless they were above."""
    if summary.hosts:
        yield paint("Verdict and reason", _BOLD)
    told = {host for one in summary.odd[: None if verbose > 0 else _ENTRIES] if one.status() for host in one.hosts}
    by_reason: dict[str, list[Host]] = {}
    for host in summary.hosts:
        if host not in told:
            by_reason.setdefault(host.profile.reason, []).append(host)
    for verdict in VERDICTS:
        if verdict in summary.counts["status"]:
            number = summary.counts["status"][verdict]
            yield paint(_row(verdict, number, len(summary.hosts)), _COLOURS[verdict])
        for reason, number in summary.counts["reason"].items():
            if REASONS[reason].status == verdict:
                yield _row(f"  {reason}", number, len(summary.hosts))
                if verdict in ("failed", "inconclusive") and reason in by_reason:
                    above = "those above and " if len(by_reason[reason]) < number else ""
                    yield f"{'':20}{above}{_names(summary, by_reason[reason], verbose)}"
                    yield f"{'':20}what to do: {REASONS[reason].hint}"


def _counts(summary: Summary, verbose: int, paint: Paint) -> Iterator[str]:
    for field, title in _TITLES.items():
        values = summary.counts[field]
        shown = list(values.items()) if verbose > 0 else list(values.items())[:_ENTRIES]
        if values:
            yield paint(title, _BOLD)
        yield from (_row(clean(value), number, len(summary.hosts)) for value, number in shown)
        if rest := len(values) - len(shown):
            yield f"  and {rest:,} more values (-v names them)"


def _unknown(summary: Summary, verbose: int, paint: Paint) -> Iterator[str]:
    """Hosts of which less is known than it seems."""
    if summary.missing:
        yield paint(f"No report of {_number(len(summary.missing), 'host')}", _BOLD)
        yield f"  {_list(summary.missing, verbose)}"
    if summary.stale:
        yield paint(f"Too old, or from the future: {_number(len(summary.stale), 'host')}", _BOLD)
        yield f"  {_list([f'{host.name} ({host.taken_at})' for host in summary.stale], verbose)}"
    if several := summary.fleet.several_machines():
        yield paint(f"One name, different CPU models: {_number(len(several), 'name')}", _BOLD)
        yield f"  {_list(several, verbose)}"
        yield "  what to do: If they are different machines, --all counts each report."
    if failed := summary.fleet.failed_elsewhere():
        yield paint(f"Failed in a report that was left out: {_number(len(failed), 'name')}", _BOLD)
        yield f"  {_list(failed, verbose)}"
        yield "  what to do: Mended since, or another machine of the same name: --all counts each report."


def _bad(summary: Summary, verbose: int, paint: Paint) -> Iterator[str]:
    bad = summary.fleet.bad()
    shown = bad if verbose > 0 else bad[:_ENTRIES]
    if bad:
        yield paint(f"Not read: {summary.fleet.bad_count:,}", _BOLD)
    for file, line, why in shown:
        yield clean(f"  {where(file, line)}: {why}")
    if rest := summary.fleet.bad_count - len(shown):
        yield f"  and {rest:,} more"


def _chosen(summary: Summary, verbose: int, paint: Paint) -> Iterator[str]:
    """The hosts that were asked for, a line each."""
    width = max((len(clean(host.name)) for host in summary.chosen), default=0)
    for host in summary.chosen:
        if verbose < 0:
            yield clean(host.name)
            continue
        status = host.profile.status
        yield (
            f"{clean(host.name):{width}}  {paint(f'{status.upper():14}', _COLOURS[status])}  "
            f"{host.profile.reason}: {clean(host.summary)}"
        )
        if verbose > 0:
            yield clean(f"  {host.profile.model}, Linux {host.profile.kernel}, {host.taken_at}")
            yield clean(f"  {where(host.file, host.line)}")
            yield clean(f"  what to do: {hint(host)}")


def _last(summary: Summary, paint: Paint) -> str:
    statuses = summary.counts["status"]
    worst = _HEADS[summary.exit_status()]
    told = [f"{statuses[verdict]:,} {verdict}" for verdict in VERDICTS if verdict in statuses]
    more = (
        (sum(len(one.hosts) for one in summary.odd), "odd"),
        (len(summary.missing), "without a report"),
        (len(summary.stale), "too old"),
        (summary.fleet.bad_count, "not read"),
        (len(summary.fleet.failed_elsewhere()), "failed in a report left out"),
    )
    told += [f"{number:,} {what}" for number, what in more if number]
    return f"{paint(worst.upper(), _BOLD + _COLOURS.get(worst, ''))}: {', '.join(told)}"


def where(file: str, line: int) -> str:
    """A file, and where in it."""
    return f"{file}, line {line}" if line else file


def _row(value: str, number: int, whole: int) -> str:
    share = number * 100 / whole
    return f"{number:10,} {share:5.1f} %  {value}"


def _names(summary: Summary, hosts: Iterable[Host], verbose: int) -> str:
    return _list([summary.label(host) for host in hosts], verbose)


def _list(names: Iterable[str], verbose: int) -> str:
    every = list(names)
    shown = every if verbose > 0 else every[:_NAMES]
    rest = f" and {len(every) - len(shown):,} more" if len(every) > len(shown) else ""
    return clean(", ".join(shown)) + rest


def _number(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
