"""What changed in how long it took, by its order of magnitude: less than that is the machine's other work."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe.compare.difference import CHANGED, NOT_COMPARABLE, SAME, Difference, Side
from kvmprobe.model import kernel_steps

_AREA = "timing"
_FACTOR = 4
_ALIKE = "the same order of magnitude"
_NOTICEABLE_MS = 1.0  # a delay of less says nothing, however many times as long it is


def timing(old: Side, new: Side) -> Iterator[Difference]:
    other = _other_work(old, new)
    for subject, times in (
        ("probe", [float(side.evidence["duration_ms"]) for side in (old, new)]),
        ("KVM_CREATE_VM in the trace", [_took(side, kernel_steps.CREATE) for side in (old, new)]),
        ("closing the VM in the trace", [_took(side, kernel_steps.CLOSE) for side in (old, new)]),
    ):
        was, now = times
        if was is None or now is None:
            continue  # that there is no trace is said there
        if max(was, now) < _FACTOR * min(was, now) or abs(was - now) < _NOTICEABLE_MS:
            yield Difference(_AREA, subject, SAME, _ALIKE, _ALIKE)
        elif other:
            yield Difference(_AREA, subject, NOT_COMPARABLE, _show(was), _show(now), other)
        else:
            yield Difference(_AREA, subject, CHANGED, _show(was), _show(now), _times(was, now))


def _other_work(old: Side, new: Side) -> str:
    """Why it cannot take as long; "" where it should."""
    pairs = (
        ("another CPU", old.cpu() != new.cpu()),
        ("another hypervisor below", old.facts.hypervisor() != new.facts.hypervisor()),
        ("another number of CPUs", len(old.facts.cpus) != len(new.facts.cpus)),
        ("a VM in one only", old.facts.vm_created != new.facts.vm_created),
        ("a trace in one only", ("trace" in old.evidence) != ("trace" in new.evidence)),
        ("other modules were loaded", _loads(old) != _loads(new)),
    )
    return ", ".join(text for text, differs in pairs if differs)


def _loads(side: Side) -> set[str]:
    return {load["module"] for load in side.evidence["loads"]}


def _took(side: Side, phase: str) -> float | None:
    """Milliseconds from the first to the last that the trace shows of a phase."""
    entries = side.evidence["trace"]["entries"] if "trace" in side.evidence else ()
    seconds = [entry["seconds"] for entry in entries if entry["phase"] == phase]
    return (max(seconds) - min(seconds)) * 1000 if seconds else None


def _show(milliseconds: float) -> str:
    seconds = milliseconds >= 1000
    rounded = float(f"{milliseconds / (1000 if seconds else 1):.1g}")  # the rest is another one in every run
    return f"about {rounded:g} {'s' if seconds else 'ms'}"


def _times(was: float, now: float) -> str:
    if not min(was, now):
        return "longer" if now > was else "shorter"
    return f"{max(was, now) / min(was, now):.0f} times as {'long' if now > was else 'fast'}"
