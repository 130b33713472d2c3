"""The numbers of a soak for people."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Soak

_COLUMNS = ("min", "p50", "p90", "p99", "p99_9", "max")


def lines(soak: Soak) -> Iterator[str]:
    """The times of KVM_CREATE_VM and of closing, and the failures."""
    rate = soak["cycles"] / soak["seconds"] if soak["seconds"] else 0.0
    first, last = soak["memory_kb"]
    yield f"{soak['cycles']} cycles, {rate:.0f} a second, {soak['vms']} VM(s) at once; memory {first} KiB → {last} KiB"
    yield f"{'µs':14}" + "".join(f"{name.replace('_', '.'):>11}" for name in _COLUMNS)
    for title, times in (("KVM_CREATE_VM", soak["create"]), ("closing", soak["close"])):
        values = (times[name] for name in _COLUMNS)  # type: ignore[literal-required]
        yield f"{title:14}" + "".join(f"{'-' if value is None else format(value, '.1f'):>11}" for value in values)
    for failure in soak["failures"]:
        yield f"cycle {failure['cycle']}, {failure['step']}: {failure['what']} ({failure['reason']})"
    if soak["failed"] > len(soak["failures"]):
        yield f"and {soak['failed'] - len(soak['failures'])} more failures"
    yield ""
