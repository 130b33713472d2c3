"""Changes of times by their order of magnitude: smaller ones come from the machine's other work."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.compare.difference import CHANGED, NOT_COMPARABLE, SAME, Difference, Side
from kvmprobe.compare.soak_times import soak_times
from kvmprobe.model import kernel_steps

if TYPE_CHECKING:
    # Subject, was, is, noticeable difference.
    _Times = tuple[str, "float | None", "float | None", float]

_AREA = "timing"
_FACTOR = 4
_ALIKE = "the same order of magnitude"
_NOTICEABLE_MS = 1.0  # a smaller difference means nothing, whatever the factor is
_NOTICEABLE_ONCE_MS = 40.0  # of one system call, which other work of the machine may delay


def timing(old: Side, new: Side) -> Iterator[Difference]:
    """How long the probe took; KVM_CREATE_VM, closing the VM and each guest, once and in the trace; times of soaks."""
    other = _other_work(old, new)
    for subject, was, now, noticeable_ms in _pairs(old, new):
        if was is None or now is None:
            continue  # older reports do not have it; the area "trace" reports that a trace is missing
        if max(was, now) < _FACTOR * min(was, now) or abs(was - now) < noticeable_ms:
            yield Difference(_AREA, subject, SAME, _ALIKE, _ALIKE)
        elif other:
            yield Difference(_AREA, subject, NOT_COMPARABLE, _rounded(was), _rounded(now), other)
        else:
            yield Difference(_AREA, subject, CHANGED, _rounded(was), _rounded(now), _factor(was, now))
    yield from soak_times(old, new, other)


def _pairs(old: Side, new: Side) -> Iterator[_Times]:
    """Subject, both times in milliseconds (None: unknown), and the difference from which on it is noticed."""
    sides = (old, new)
    was, now = (float(side.evidence["duration_ms"]) for side in sides)
    yield "probe", was, now, _NOTICEABLE_MS
    if not all("soak" in side.evidence for side in sides):  # Soaks have many times in place of this one.
        for subject, of_side in (("KVM_CREATE_VM", _create_ms), ("closing the VM", _close_ms)):
            yield subject, of_side(old), of_side(new), _NOTICEABLE_ONCE_MS
        before, after = map(_guest_ms, sides)
        for cpu in sorted({*before}.intersection(after)):
            yield f"guest run on cpu{cpu}", before[cpu], after[cpu], _NOTICEABLE_ONCE_MS
    for subject, phase in (("KVM_CREATE_VM", kernel_steps.CREATE), ("closing the VM", kernel_steps.CLOSE)):
        yield f"{subject} in the trace", _traced_ms(old, phase), _traced_ms(new, phase), _NOTICEABLE_MS


def _other_work(old: Side, new: Side) -> str:
    """Why the two times are not of the same work; "" where they are."""
    reasons = (
        ("the CPU models differ", old.cpu() != new.cpu()),
        ("the hypervisors differ", old.facts.hypervisor() != new.facts.hypervisor()),
        ("the numbers of CPUs differ", len(old.facts.cpus) != len(new.facts.cpus)),
        ("only one created a VM", old.facts.vm_created != new.facts.vm_created),
        ("only one has a trace", ("trace" in old.evidence) != ("trace" in new.evidence)),
        ("kvmprobe loaded different modules", _loads(old) != _loads(new)),
    )
    return ", ".join(text for text, differs in reasons if differs)


def _loads(side: Side) -> set[str]:
    return {load["module"] for load in side.evidence["loads"]}


def _create_ms(side: Side) -> float | None:
    return side.evidence["times"]["create"] / 1000 if "times" in side.evidence else None


def _close_ms(side: Side) -> float | None:
    return side.evidence["times"]["close"] / 1000 if "times" in side.evidence else None


def _guest_ms(side: Side) -> dict[int, float]:
    """Of the CPUs on which the guest ran to its end; {} in older reports."""
    return {run["cpu"]: run["us"] / 1000 for run in side.evidence["guest"] if "us" in run}


def _traced_ms(side: Side, phase: str) -> float | None:
    """Milliseconds between the first and the last entry of the trace in a phase; None without entries."""
    entries = side.evidence["trace"]["entries"] if "trace" in side.evidence else ()
    seconds = [entry["seconds"] for entry in entries if entry["phase"] == phase]
    return (max(seconds) - min(seconds)) * 1000 if seconds else None


def _rounded(milliseconds: float) -> str:
    """One digit: all others differ in every run."""
    in_seconds = milliseconds >= 1000
    rounded = float(f"{milliseconds / (1000 if in_seconds else 1):.1g}")
    return f"about {rounded:g} {'s' if in_seconds else 'ms'}"


def _factor(was: float, now: float) -> str:
    if not min(was, now):
        return "longer" if now > was else "shorter"
    return f"{max(was, now) / min(was, now):.0f} times as {'long' if now > was else 'fast'}"
