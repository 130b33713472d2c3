"""CPU numbers: the kernel's list format ("0-3,8"), and CPUs grouped by their values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TypeVar

    _T = TypeVar("_T")


def parse_cpulist(text: str | None) -> list[int]:
    """CPU numbers of the kernel's list format ("0-3,8"); ValueError for anything else."""
    cpus: list[int] = []
    previous = -1
    for part in text.strip().split(",") if text and text.strip() else ():
        first, dash, last = part.partition("-")
        if not dash:
            last = first
        # isdigit() alone would accept the digits of every script
        if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
            raise ValueError(f"not a list of CPUs: {str(text)[:80]!r}")
        # The kernel's lists ascend, so this also bounds them.
        if not previous < int(first) <= int(last) < 1 << 16:
            raise ValueError(f"not a list of CPUs: {str(text)[:80]!r}")
        previous = int(last)
        cpus += range(int(first), previous + 1)
    return cpus


def format_cpulist(cpus: Iterable[int]) -> str:
    """The kernel's list format of some CPU numbers."""
    ranges: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def cpu_names(cpus: Iterable[int]) -> str:
    """ "cpu0-3,8"; "no CPU" for none."""
    text = format_cpulist(cpus)
    return f"cpu{text}" if text else "no CPU"


def group(values: Mapping[int, _T]) -> dict[_T, list[int]]:
    """CPUs by value, in the order in which the values first occur."""
    groups: dict[_T, list[int]] = {}
    for cpu, value in values.items():
        groups.setdefault(value, []).append(cpu)
    return groups


def fold(values: Mapping[int, object]) -> str:
    """ "0xd01" where all CPUs have the same value, else "0xd01 on cpu0-2, 0x1d01 on cpu3"; see text_of."""
    groups = group({cpu: text_of(value) for cpu, value in values.items()})
    if len(groups) == 1:
        return next(iter(groups))
    return ", ".join(f"{value} on {cpu_names(cpus)}" for value, cpus in groups.items())


def text_of(value: object) -> str:
    """A value as people read it: None is "unknown", a truth is "yes" or "no", an integer is hexadecimal."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return hex(value) if isinstance(value, int) else str(value)
