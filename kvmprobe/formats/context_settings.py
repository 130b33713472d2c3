"""The settings of the host around KVM that similar hosts have in common, from a report that may be written by hand."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.printable import cut

if TYPE_CHECKING:
    from typing import Any

_LONGEST, _MOST = 120, 100  # characters of a value; vulnerabilities


def context_settings(context: object) -> tuple[str, ...]:
    """("smt.active=1", "vulnerability.retbleed=Mitigation: ...", ...); what is unknown is left out."""
    return tuple(f"{name}={cut(value, _LONGEST)}" for name, value in _settings(context) if isinstance(value, str))


def _settings(context: object) -> Iterator[tuple[str, object]]:
    smt, clock, iommu = (_part(context, name) for name in ("smt", "clock", "iommu"))
    yield "smt.active", smt.get("active")
    yield "clocksource", clock.get("current")
    devices, groups = iommu.get("devices"), iommu.get("groups")
    if isinstance(devices, list) and isinstance(groups, int):
        types = _part(iommu, "types")
        yield "iommu", ", ".join(sorted(map(str, types))[:4]) or "in use" if devices and groups else "not in use"
    for size, pages in sorted(_part(context, "huge_pages").items())[:_MOST]:
        total = pages.get("total") if isinstance(pages, dict) else None
        yield f"hugepages.{cut(str(size), _LONGEST)}", str(total) if isinstance(total, int) else None
    for name, value in sorted(_part(context, "vulnerabilities").items())[:_MOST]:
        yield f"vulnerability.{cut(str(name), _LONGEST)}", value


def _part(data: object, name: str) -> dict[str, Any]:
    """The object `name` in data; an empty one where there is none."""
    found = data.get(name) if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}
