"""Quantities of the host's memory."""

from __future__ import annotations

import re

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.requirements.host_quantities import count
from kvmprobe.judge.requirements.quantity import Measurement, Quantity

if TYPE_CHECKING:
    from typing import Callable

    from kvmprobe.judge.facts import Facts

_KIB = {"K": 1, "M": 1 << 10, "G": 1 << 20, "T": 1 << 30}
_PROBE_AGAIN = "Run `kvmprobe check` of this version on the host itself."


def _size(text: str) -> int:
    """KiB in "64G" or "64GiB". Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,9})([KMGTkmgt])(?:i?[Bb])?", text)
    if not match:
        raise ValueError("the limit is not a size such as 64G (K, M, G, T: powers of 1,024)")
    return int(match[1]) * _KIB[match[2].upper()]


def _memory(facts: Facts, _: int) -> Measurement:
    context = facts.evidence.get("context")
    size = context["memory_kb"] if context else None
    if size is None:
        return Measurement([], "how much memory there is is not in the evidence")
    return Measurement([(size, size)], f"{size / (1 << 20):.1f} GiB of memory")


def _huge_pages(size: str) -> Callable[[Facts, int], Measurement]:
    """How many pages of a size there are. A size that the kernel does not offer has none."""

    def measure(facts: Facts, _: int) -> Measurement:
        context = facts.evidence.get("context")
        sizes = context["huge_pages"] if context else None
        pages = sizes.get(size, {"total": 0, "free": 0}) if sizes is not None else None
        total = pages["total"] if pages else None
        if pages is None or total is None:
            return Measurement([], "how many huge pages there are is not in the evidence")
        free = "unknown" if pages["free"] is None else f"{pages['free']:,}"
        return Measurement([(total, total)], f"{total:,} huge pages of {size}, {free} of them free")

    return measure


_MORE_PAGES = "Reserve more, best on the kernel command line (hugepagesz=, hugepages=), and reboot."

MEMORY_QUANTITIES = (
    Quantity(
        "memory",
        "the memory that the kernel can use (MemTotal), some percent less than what is installed",
        "memory>=60G",
        _size,
        _memory,
        "Choose another host.",
        _PROBE_AGAIN,
    ),
    Quantity(
        "hugepages",
        "how many huge pages of 2 MiB are reserved",
        "hugepages>=1024",
        count,
        _huge_pages("2048kB"),
        _MORE_PAGES,
        _PROBE_AGAIN,
    ),
    Quantity(
        "hugepages-1g",
        "how many huge pages of 1 GiB are reserved",
        "hugepages-1g>=16",
        count,
        _huge_pages("1048576kB"),
        _MORE_PAGES,
        _PROBE_AGAIN,
    ),
)
