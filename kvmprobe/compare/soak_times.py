"""Changes of the times of two soaks, by their percentiles: what the spread of the old ones explains is no change."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.compare.difference import BETTER, CHANGED, NOT_COMPARABLE, SAME, WORSE, Difference, Side

if TYPE_CHECKING:
    from typing import Any

    from kvmprobe.model.command_evidence import Percentiles

    _Timed = dict[str, tuple["Percentiles | None", "Percentiles | None"]]

_AREA = "timing"
_LEAST_TIMES = 20  # of each report; fewer show no spread
_LEAST_FOR_TAIL = 100
_FACTOR = 2  # of the medians; less comes from the machine's other work, too
_TAIL_FACTOR = 4  # of the 99th percentile to the longest time before
_ALIKE = "within the spread"


def soak_times(old: Side, new: Side, other_work: str) -> Iterator[Difference]:
    """KVM_CREATE_VM, closing a VM, and by CPU a run of the guest and an exit, of two soaks.

    `other_work`: why times of both reports cannot be compared, "" where they can.
    """
    soaks = [side.evidence.get("soak") for side in (old, new)]
    if None in soaks:
        return
    if not other_work and soaks[0]["vms"] != soaks[1]["vms"]:
        other_work = "the numbers of VMs at once differ"
    for subject, (was, now) in _timed(*soaks).items():
        if was is None or now is None or min(was["count"], now["count"]) < _LEAST_TIMES:
            continue
        rating, note = _rate(was, now)
        if rating == SAME:
            yield Difference(_AREA, subject, SAME, _ALIKE, _ALIKE)
        elif other_work:
            yield Difference(_AREA, subject, NOT_COMPARABLE, _text(was), _text(now), other_work)
        else:
            yield Difference(_AREA, subject, rating, _text(was), _text(now), note)


def _timed(old: Any, new: Any) -> _Timed:
    """The percentiles of both soaks by subject; None where a report does not have them."""
    found: _Timed = {
        "KVM_CREATE_VM in the soak": (old["create"], new["create"]),
        "closing a VM in the soak": (old["close"], new["close"]),
    }
    for name, title in (("first_create", "the first KVM_CREATE_VM"), ("last_close", "closing the last VM")):
        if name in old and name in new:
            found[f"{title} of a cycle"] = (old[name], new[name])
    for name, title in (("guest", "guest run in the soak"), ("exits", "exit in the soak")):
        was, now = old.get(name, {}), new.get(name, {})
        for cpu in sorted({*was, *now}, key=int):
            found[f"{title}, cpu{cpu}"] = (was.get(cpu), now.get(cpu))
    return found


def _rate(was: Percentiles, now: Percentiles) -> tuple[str, str]:
    if _is_beyond(was, now):
        return WORSE, f"{_ratio(now['p50'], was['p50'])} times as long"
    if _is_beyond(now, was):
        return BETTER, f"{_ratio(was['p50'], now['p50'])} times as fast"
    longest, tail = was["max"], now["p99"]
    enough = min(was["count"], now["count"]) >= _LEAST_FOR_TAIL
    if enough and longest and tail and tail > _TAIL_FACTOR * longest:
        return CHANGED, "one of a hundred takes longer than the longest before"
    return SAME, ""


def _is_beyond(before: Percentiles, after: Percentiles) -> bool:
    """Whether times are longer than the spread of those before explains.

    The median is longer than nine of ten before, and _FACTOR times the median before; even the shortest time is longer
    than the median before. Other work of the machine lengthens most times, but hardly the shortest of many.
    """
    median, p90 = before["p50"], before["p90"]
    shortest, now = after["min"], after["p50"]
    if median is None or p90 is None or shortest is None or now is None:  # of a damaged report
        return False
    return now >= _FACTOR * median and now > p90 and shortest > median


def _ratio(longer: float | None, shorter: float | None) -> str:
    return f"{longer / shorter:.1f}" if longer and shorter else "many"


def _text(times: Percentiles) -> str:
    values = (f"{name} {_rounded(times[name])}" for name in ("min", "p50", "p99"))
    return ", ".join(values)


def _rounded(microseconds: float | None) -> str:
    if microseconds is None:
        return "unknown"
    if microseconds < 1000:
        return f"{microseconds:.3g} us"
    return f"{float(f'{microseconds / 1000:.3g}'):g} ms"
