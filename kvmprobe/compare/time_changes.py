"""Changes of times by their order of magnitude: smaller ones come from the machine's other work."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe.compare.difference import CHANGED, NOT_COMPARABLE, SAME, Difference, Side
from kvmprobe.model import kernel_steps

_AREA = "timing"
_FACTOR = 4
_ALIKE = "the same order of magnitude"
_NOTICEABLE_MS = 1.0  # a smaller difference means nothing, whatever the factor is


def timing(old: Side, new: Side) -> Iterator[Difference]:
    """How long the probe took, and KVM_CREATE_VM and closing the VM in the trace."""
    other = _other_work(old, new)
    for subject, times in (
        ("probe", [float(side.evidence["duration_ms"]) for side in (old, new)]),
        ("KVM_CREATE_VM in the trace", [_traced_ms(side, kernel_steps.CREATE) for side in (old, new)]),
        ("closing the VM in the trace", [_traced_ms(side, kernel_steps.CLOSE) for side in (old, new)]),
    ):
        was, now = times
        if was is None or now is None:
            continue  # the area "trace" reports that a trace is missing
        if max(was, now) < _FACTOR * min(was, now) or abs(was - now) < _NOTICEABLE_MS:
            yield Difference(_AREA, subject, SAME, _ALIKE, _ALIKE)
        elif other:
            yield Difference(_AREA, subject, NOT_COMPARABLE, _rounded(was), _rounded(now), other)
        else:
            yield Difference(_AREA, subject, CHANGED, _rounded(was), _rounded(now), _factor(was, now))


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
