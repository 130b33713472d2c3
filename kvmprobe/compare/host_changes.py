"""Changes of the host around KVM: vulnerabilities, SMT, clock, memory, IOMMU, devices of VMMs, cgroups."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.compare.difference import BETTER, CHANGED, NOT_COMPARABLE, SAME, WORSE, Difference, Side
from kvmprobe.model.cgroup_controllers import controllers, used_by_libvirt
from kvmprobe.model.values import error_of
from kvmprobe.model.vulnerabilities import is_vulnerable

if TYPE_CHECKING:
    from typing import Any

    from kvmprobe.model.context_evidence import Context
    from kvmprobe.model.evidence import Reading

_AREA = "host"
_UNKNOWN = "unknown"
# MemTotal is what the kernel leaves of the installed memory, so it differs by some MiB between kernels.
_MEMORY_STEP = 0.02


def host(old: Side, new: Side) -> Iterator[Difference]:
    """What both reports have. Reports of older versions have nothing of it and are not compared."""
    was, now = (side.evidence.get("context") for side in (old, new))
    if was is None or now is None:
        return
    yield from _vulnerabilities(was, now)
    for name in ("control", "active"):
        yield _setting(f"SMT {name}", was["smt"][name], now["smt"][name])
    yield from _clock(was, now)
    yield from _memory(was, now)
    yield from _iommu(was, now)
    yield from _devices(was, now)
    yield _cgroups(was, now)


def _setting(subject: str, was: Reading, now: Reading) -> Difference:
    before, after = _text(was), _text(now)
    is_known = isinstance(was, str) and isinstance(now, str)
    rating = SAME if before == after else CHANGED if is_known else NOT_COMPARABLE
    return Difference(_AREA, subject, rating, before, after)


def _text(value: object) -> str:
    return error_of(value) or (_UNKNOWN if value is None else str(value))


def _vulnerabilities(was: Context, now: Context) -> Iterator[Difference]:
    """It is worse where the kernel no longer mitigates what it did, or a CPU was not affected and is now vulnerable.

    One that a kernel does not know is neither worse nor better: a newer kernel knows more of them.
    """
    before, after = was["vulnerabilities"] or {}, now["vulnerabilities"] or {}
    for name in sorted({*before, *after}):
        texts = [_text(side[name]) if name in side else "not in this kernel" for side in (before, after)]
        states = [is_vulnerable(side.get(name)) for side in (before, after)]
        if texts[0] == texts[1]:
            rating = SAME
        elif None in states:
            rating = NOT_COMPARABLE
        else:
            rating = CHANGED if states[0] == states[1] else WORSE if states[1] else BETTER
        yield Difference(_AREA, f"vulnerability {name}", rating, *texts)


def _clock(was: Context, now: Context) -> Iterator[Difference]:
    yield _setting("clock source", was["clock"]["current"], now["clock"]["current"])
    available = [context["clock"]["available"] for context in (was, now)]
    offers = [set(one.split()) if isinstance(one, str) else None for one in available]
    yield _lost("clock source tsc", *(None if one is None else {"tsc"} & one for one in offers))


def _lost(subject: str, was: set[str] | None, now: set[str] | None) -> Difference:
    """The difference of what is there: worse where something is gone, better where something came and nothing went."""
    before, after = (_UNKNOWN if one is None else ", ".join(sorted(one)) or "none" for one in (was, now))
    if was == now:
        rating = SAME
    elif was is None or now is None:
        rating = NOT_COMPARABLE
    else:
        rating = WORSE if was - now else BETTER
    return Difference(_AREA, subject, rating, before, after)


def _memory(was: Context, now: Context) -> Iterator[Difference]:
    sizes = [context["memory_kb"] for context in (was, now)]
    before, after = (_UNKNOWN if size is None else f"{size / (1 << 20):.1f} GiB" for size in sizes)
    if sizes[0] is None or sizes[1] is None:
        rating = SAME if sizes[0] is sizes[1] else NOT_COMPARABLE
    else:
        rating = SAME if abs(sizes[0] - sizes[1]) <= _MEMORY_STEP * max(sizes[0], 1) else CHANGED
    yield Difference(_AREA, "memory", rating, before, after)
    pages: list[Any] = [context["huge_pages"] or {} for context in (was, now)]
    for size in sorted({*pages[0], *pages[1]}):
        totals = [side[size]["total"] if size in side else None for side in pages]
        yield _setting(f"huge pages of {size}", *(None if one is None else str(one) for one in totals))
    yield _setting("transparent huge pages", was["transparent_huge_pages"], now["transparent_huge_pages"])


def _iommu(was: Context, now: Context) -> Iterator[Difference]:
    """Whether the kernel uses an IOMMU, and the types of its groups. How many groups there are changes with devices."""
    uses = [_uses_iommu(context) for context in (was, now)]
    yield _lost("IOMMU", *(None if one is None else {"in use"} if one else set() for one in uses))
    if all(uses):
        types = [", ".join(sorted(context["iommu"]["types"])) for context in (was, now)]
        yield _setting("IOMMU group types", *types)


def _uses_iommu(context: Context) -> bool | None:
    devices, groups = context["iommu"]["devices"], context["iommu"]["groups"]
    return None if devices is None or groups is None else bool(devices and groups)


def _devices(was: Context, now: Context) -> Iterator[Difference]:
    """Whether each node is there. Its driver comes and goes with its users."""
    for name in sorted(was["devices"].keys() & now["devices"].keys()):
        nodes = [context["devices"][name] for context in (was, now)]
        yield _lost(nodes[0]["path"], *(set() if node["type"] is None else {str(node["type"])} for node in nodes))


def _cgroups(was: Context, now: Context) -> Difference:
    """What is gone. v2 has other controllers than v1: between these, what libvirt uses decides."""
    subject = "cgroup controllers"
    before, after = controllers(was["cgroups"]), controllers(now["cgroups"])
    if before is None or after is None or before[0] == after[0]:
        return _lost(subject, *(None if one is None else set(one[1]) for one in (before, after)))
    had, has = used_by_libvirt(*before), used_by_libvirt(*after)
    lost = ", ".join(sorted(had - has))
    rating = WORSE if lost else CHANGED if had == has else BETTER
    old, new = (f"{version}: {', '.join(sorted(names)) or 'none'}" for version, names in (before, after))
    note = f"lost of what libvirt uses: {lost}" if lost else ""
    return Difference(_AREA, subject, rating, old, new, note)
