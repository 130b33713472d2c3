"""The section of the text report about a soak: its times, and the cycles that failed."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats.text_lines import Line, heading
from kvmprobe.judge.soak_growth import growth_text
from kvmprobe.model import leak_rules
from kvmprobe.model.leak_rules import RESOURCES, value_of
from kvmprobe.model.printable import columns, counted

if TYPE_CHECKING:
    from kvmprobe.model.command_evidence import Kills, Percentiles, Soak

_COLUMNS = ("min", "p50", "p90", "p99", "p99_9", "max")
_CELL = 9  # characters of a number, which stands at the right of its column


def section(soak: Soak, brief: bool) -> Iterator[Line]:
    """The times in microseconds, what grew, and each failure that was kept.

    `brief`: where a cycle failed, only what the verdict does not quote: it has the first failure. Of what grew one
    line.
    """
    rate = soak["cycles"] / soak["seconds"] if soak["seconds"] else 0.0
    first, last = soak["memory_kb"]
    failures = soak["failures"]
    title = f"{counted(soak['cycles'], 'cycle')}, {rate:.0f} per second, {counted(soak['vms'], 'VM')} at a time"
    if brief and failures:
        yield heading(f"{title}; -v shows times and failures.")
        return
    yield heading(f"{title}:")
    rows = [["times in µs", *(f"{name.replace('_', '.'):>{_CELL}}" for name in _COLUMNS)]]
    for title, times in _times(soak):
        values = (times[name] for name in _COLUMNS)  # type: ignore[literal-required]
        rows.append([title, *(f"{'-' if value is None else format(value, '.1f'):>{_CELL}}" for value in values)])
    yield from map(Line, columns(rows, " "))
    if soak.get("samples"):
        yield from _growth_in_brief(soak) if brief else _growth(soak)
    else:
        yield Line(f"resident memory: {first} KiB at the beginning, {last} KiB at the end")
    if "kills" in soak:
        yield Line(_kills(soak["kills"]))
    for failure in failures:
        yield Line(f"cycle {failure['cycle']}, {failure['step']}: {failure['what']} ({failure['reason']})")
    if soak["failed"] > len(failures):
        yield Line(f"and {counted(soak['failed'] - len(soak['failures']), 'more failure')}")


def _kills(kills: Kills) -> str:
    hits = kills["creating"] + kills["alive"] + kills["closing"]
    total = hits + kills["missed"]
    stages = f"{kills['creating']} being created, {kills['alive']} alive, {kills['closing']} being closed"
    return f"{counted(total, 'process')} killed, {hits} with a VM: {stages}"


def _growth_in_brief(soak: Soak) -> Iterator[Line]:
    samples, vms = soak["samples"], soak["vms"]
    grown = [
        one for one in RESOURCES if one.is_kernels and (leak_rules.growth_per_vm(samples, one, vms) or 0) > one.per_vm
    ]
    texts = [f"{one.title} {growth_text(samples, one, vms)}" for one in grown]
    if texts:
        yield Line(f"growth beyond thresholds: {'; '.join(texts)}; -v shows all")


def _growth(soak: Soak) -> Iterator[Line]:
    """What was in use after the first cycle and at the end, and the growth for each VM."""
    samples = soak["samples"]
    rows = [["in use", *(f"{name:>{_CELL}}" for name in ("first", "last")), "growth"]]
    for one in RESOURCES:
        values = (value_of(sample, one) for sample in (samples[0], samples[-1]))
        cells = (f"{'-' if value is None else value:>{_CELL}}" for value in values)
        title = f"{one.title} ({one.unit})" if one.unit else one.title
        rows.append([title, *cells, growth_text(samples, one, soak["vms"])])
    yield from map(Line, columns(rows, " "))


def _times(soak: Soak) -> Iterator[tuple[str, Percentiles]]:
    """Each row of the table. Of the CPUs the one with the highest median stands for all."""
    yield "KVM_CREATE_VM", soak["create"]
    yield "closing the VM", soak["close"]
    for title, by_cpu in (("guest run", soak.get("guest", {})), ("one exit", soak.get("exits", {}))):
        medians = {cpu: times["p50"] for cpu, times in by_cpu.items() if times["p50"] is not None}
        if medians:
            slowest = max(medians, key=lambda cpu: medians[cpu])
            yield f"{title} (cpu{slowest})", by_cpu[slowest]
