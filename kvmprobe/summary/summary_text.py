"""A summary as text for people: failed hosts first, then inconclusive ones and outliers, then the counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats.host_row import HostRow
from kvmprobe.model.errors import EXIT_CONFIRMED, EXIT_DATA, EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_NOT_APPLICABLE
from kvmprobe.model.printable import BOLD, COLOURS, YELLOW, clean, counted, cut, joined, paint, wrap
from kvmprobe.model.reasons import REASONS
from kvmprobe.model.verdict_status import BEST_FIRST
from kvmprobe.summary.fleet_summary import Summary, equal_verdicts, hint

if TYPE_CHECKING:
    from typing import TypeVar

    from kvmprobe.summary.outliers import OutlierGroup, UnusualValue

    Entry = TypeVar("Entry")


# The first word of the last line, by the exit status.
_RESULTS = {
    EXIT_CONFIRMED: "confirmed",
    EXIT_FAILED: "failed",
    EXIT_INCONCLUSIVE: "inconclusive",
    EXIT_NOT_APPLICABLE: "not applicable",
    EXIT_DATA: "incomplete",
}
_NAMES, _ENTRIES, _FAILED = 8, 20, 50  # that a list of names, of others, of failed hosts has at most without -v
_COUNTED = {
    "kernel": "Kernel",
    "model": "CPU model",
    "microcode": "Microcode",
    "version": "Version of kvmprobe",
    "sev": "SEV",
}


def render(summary: Summary, verbose: int = 0, colour: bool = False, width: int | None = None) -> str:
    """The text. `verbose`: -1 the last line only (with --only the names only), 0 short lists, 1 whole lists. `width`:
    the columns of the terminal; None: lines are not wrapped."""
    text = _Text(summary, verbose, colour, width)
    if summary.only:
        return joined(text.chosen())
    return joined([text.last()] if verbose < 0 else text.whole())


def where(file: str, line: int) -> str:
    """A file, and the line in it (0: the whole file)."""
    return f"{file}, line {line}" if line else file


class _Text:
    def __init__(self, summary: Summary, verbose: int, colour: bool, width: int | None) -> None:
        self._summary = summary
        self._verbose = verbose
        self._colour = colour
        self._width = width

    def whole(self) -> Iterator[str]:
        sections = (
            self._head,
            self._failed,
            self._inconclusive,
            self._requirements,
            self._outliers,
            self._reasons,
            self._counts,
            self._unknown,
            self._bad,
        )
        for section in sections:
            if lines := list(section()):
                yield from (*lines, "")
        yield self.last()

    def last(self) -> str:
        """The result in one line: what decides the exit status, then all numbers behind it."""
        summary = self._summary
        statuses = summary.counts["status"]
        numbers = [f"{statuses[status]:,} {status}" for status in reversed(BEST_FIRST) if status in statuses]
        if outliers := sum(len(group.hosts) for group in summary.outliers):
            numbers.append(counted(outliers, "outlier"))
        more = (
            (len(summary.missing), "without a report"),
            (len(summary.stale), "outside --max-age"),
            (summary.fleet.bad_count, "not read"),
            (len(summary.fleet.failed_earlier()), "failed in an older report"),
        )
        numbers += [f"{number:,} {what}" for number, what in more if number]
        status = summary.exit_status()
        result = "usable" if status == EXIT_CONFIRMED and "usable" in statuses else _RESULTS[status]
        return f"{self._paint(result.upper(), BOLD + COLOURS.get(result, ''))}: {', '.join(numbers)}"

    def chosen(self) -> Iterator[str]:
        """The hosts that --only asks for, one line each; with -q only their names, with -v more about each."""
        hosts = self._summary.chosen
        if self._verbose < 0:
            yield from (clean(host.name) for host in hosts)
            return
        widest = max((len(clean(host.name)) for host in hosts), default=0)
        for host in hosts:
            status = host.profile.status
            head = f"{clean(host.name):{widest}}  {self._paint(f'{status.upper():14}', COLOURS[status])}  "
            yield from self._wrap(f"{host.profile.reason}: {host.summary}", head, " " * (widest + 18))
            if self._verbose > 0:
                yield clean(f"  {host.profile.model}, Linux {host.profile.kernel}, {host.taken_at}")
                yield clean(f"  {where(host.file, host.line)}")
                yield from self._wrap(f"what to do: {hint(host)}", "  ")

    def _head(self) -> Iterator[str]:
        summary, fleet = self._summary, self._summary.fleet
        span = fleet.span()
        yield counted(len(summary.hosts), "host") + (f", reports from {span[0]} to {span[1]}" if span else "")
        notes = [f"{counted(fleet.reports, 'report')} read"]
        if older := summary.older():
            notes.append(f"{counted(older, 'older report')} of the same hosts skipped")
        if fleet.judged:
            notes.append(f"{fleet.judged:,} judged again")
        if summary.ignored:
            notes.append(f"{counted(summary.ignored, 'other file')} in the folders ignored")
        yield "; ".join(notes)

    def _failed(self) -> Iterator[str]:
        """A line for each failed host, the largest kind first, and each hint once."""
        hosts, kinds = self._with_status("failed")
        if hosts:
            yield self._title(f"Failed: {len(hosts):,} of {counted(len(self._summary.hosts), 'host')}")
        is_cut = self._verbose <= 0 and len(hosts) > _FAILED
        room = max(1, _FAILED // min(len(kinds), _ENTRIES)) if is_cut else len(hosts)
        for kind in self._first(kinds):
            yield self._kind(kind)
            widest = max(len(clean(self._summary.label(host))) for host in kind[:room])
            for host in kind[:room]:
                line = f"  {clean(self._summary.label(host)):{widest}}  {clean(host.summary)}"
                yield line if self._verbose > 0 or self._width is None else cut(line, self._width)
            if len(kind) > room:
                yield f"  and {len(kind) - room:,} more (-v lists all)"
            yield from self._what_to_do(kind[0])
        yield from self._rest(kinds, "kinds of failures")

    def _inconclusive(self) -> Iterator[str]:
        """By kind, the largest first: each text once, with the hosts that it is true of, and each hint once."""
        hosts, kinds = self._with_status("inconclusive")
        if hosts:
            yield self._title(f"Inconclusive: {len(hosts):,} of {counted(len(self._summary.hosts), 'host')}")
        for kind in self._first(kinds):
            yield self._kind(kind)
            texts = equal_verdicts(kind)
            for equal in self._first(texts):
                yield from self._wrap(f"{self._names(equal)}: {equal[0].summary}", "  ")
            yield from self._rest(texts, "texts", "  ")
            yield from self._what_to_do(kind[0])
        yield from self._rest(kinds, "kinds")

    def _with_status(self, status: str) -> tuple[list[HostRow], list[list[HostRow]]]:
        """The hosts with a status; and the same by kind: those with the same reason and the same hint."""
        hosts = [host for host in self._summary.hosts if host.profile.status == status]
        kinds: dict[tuple[str, str], list[HostRow]] = {}
        for host in hosts:
            kinds.setdefault((host.profile.reason, hint(host)), []).append(host)
        reasons = self._summary.counts["reason"]  # the most frequent first
        return hosts, [
            kind
            for reason in reasons
            for kind in sorted(kinds.values(), key=len, reverse=True)
            if kind[0].profile.reason == reason
        ]

    def _kind(self, kind: list[HostRow]) -> str:
        profile = kind[0].profile
        return f"{self._paint(profile.reason, COLOURS[profile.status])}: {counted(len(kind), 'host')}"

    def _what_to_do(self, host: HostRow) -> list[str]:
        return self._wrap(f"what to do: {hint(host)}", "  ")

    def _requirements(self) -> Iterator[str]:
        """Of each requirement the number of the hosts that meet it, then the hosts by answer."""
        for name, by_status in self._summary.answers().items():
            asked = sum(map(len, by_status.values()))
            met = len(by_status["met"])
            yield self._title(f"Requirement {clean(name)}: met by {met:,} of {counted(asked, 'host')}")
            for status, hosts in by_status.items():
                if hosts:
                    yield from self._wrap(f"{status} ({len(hosts):,}): {self._names(hosts)}", "  ")

    def _outliers(self) -> Iterator[str]:
        """What is unusual beyond the verdicts above."""
        groups = [group for group in self._summary.outliers if self._unusual(group)]
        if groups:
            yield self._title("Outliers") + ": hosts that differ from most with the same CPU model and kernel"
        for group in self._first(groups):
            status = group.status()
            mark = self._paint(f"[{status.upper() or 'OUTLIER':^14}]", COLOURS.get(status, YELLOW))
            yield from self._wrap(self._names(group.hosts), f"{mark} ", " " * 17)
            yield clean(f"  among {group.size:,} hosts with {group.model}, Linux {group.kernel}")
            for one in self._unusual(group):
                text = f"{one.what}: {one.value} (usual: {one.usual}, on {counted(one.number, 'host')})"
                yield from self._wrap(text, "  ")
            if status in ("usable", "not applicable"):
                texts = equal_verdicts(group.hosts)
                for equal in self._first(texts):
                    yield from self._wrap(f"{self._names(equal)}: {equal[0].summary}", "  ")
                    yield from self._what_to_do(equal[0])
                yield from self._rest(texts, "texts", "  ")
        yield from self._rest(groups, "groups of outliers")

    def _unusual(self, group: OutlierGroup) -> list[UnusualValue]:
        """The unusual values of a group, except a verdict that stands above."""
        return group.values[1:] if group.status() in ("failed", "inconclusive") else group.values

    def _reasons(self) -> Iterator[str]:
        """The numbers by verdict, the worst first, and by reason."""
        summary = self._summary
        if summary.hosts:
            yield self._title("Verdict and reason")
        for status in reversed(BEST_FIRST):
            if status in summary.counts["status"]:
                yield self._paint(self._share(status, summary.counts["status"][status]), COLOURS[status])
            for reason, number in summary.counts["reason"].items():
                if REASONS[reason].status == status:
                    yield self._share(f"  {reason}", number)

    def _counts(self) -> Iterator[str]:
        for field, title in _COUNTED.items():
            values = list(self._summary.counts.get(field, {}).items())
            if values:
                yield self._title(title)
            yield from (self._share(clean(value), number) for value, number in self._first(values))
            yield from self._rest(values, "values", "  ")

    def _unknown(self) -> Iterator[str]:
        """Hosts about which less is known than the counts suggest."""
        summary = self._summary
        several, failed = summary.fleet.several_models(), summary.fleet.failed_earlier()
        if summary.missing:
            yield self._title(f"No report from {counted(len(summary.missing), 'host')}")
            yield from self._wrap(self._list(summary.missing), "  ")
        if summary.stale:
            yield self._title(f"Report older than --max-age, or from the future: {counted(len(summary.stale), 'host')}")
            yield from self._wrap(self._list(f"{host.name} ({host.taken_at})" for host in summary.stale), "  ")
        if several:
            yield self._title(f"One host name, different CPU models: {counted(len(several), 'name')}")
            yield from self._wrap(self._list(several), "  ")
            yield "  what to do: If these are different machines, count each report: --all."
        if failed:
            yield self._title(f"Failed in an older report: {counted(len(failed), 'host')}")
            yield from self._wrap(self._list(failed), "  ")
            yield "  what to do: If another machine has the same name, count each report: --all."

    def _bad(self) -> Iterator[str]:
        fleet = self._summary.fleet
        first = fleet.bad()[: None if self._verbose > 0 else _ENTRIES]
        if first:
            yield self._title(f"Not read: {fleet.bad_count:,}")
        for file, line, why in first:
            yield clean(f"  {where(file, line)}: {why}")
        if rest := fleet.bad_count - len(first):
            yield f"  and {rest:,} more"

    def _first(self, entries: list[Entry]) -> list[Entry]:
        return entries if self._verbose > 0 else entries[:_ENTRIES]

    def _rest(self, entries: list[Entry], what: str, indent: str = "") -> Iterator[str]:
        """What _first() leaves out, in one line."""
        if rest := len(entries) - len(self._first(entries)):
            yield f"{indent}and {rest:,} more {what} (-v lists all)"

    def _share(self, value: str, number: int) -> str:
        return f"{number:10,} {number * 100 / len(self._summary.hosts):5.1f} %  {value}"

    def _names(self, hosts: Iterable[HostRow]) -> str:
        return self._list(map(self._summary.label, hosts))

    def _list(self, names: Iterable[str]) -> str:
        every = list(names)
        first = every if self._verbose > 0 else every[:_NAMES]
        rest = f" and {len(every) - len(first):,} more" if len(every) > len(first) else ""
        return ", ".join(first) + rest

    def _title(self, text: str) -> str:
        return self._paint(text, BOLD)

    def _paint(self, text: str, colour: str) -> str:
        return paint(text, colour, self._colour)

    def _wrap(self, text: str, first: str, rest: str = "") -> list[str]:
        """`text`, made safe to print, behind `first`; further lines behind `rest`, or two columns further in."""
        return wrap(clean(text), self._width, first, rest or first + "  ")
