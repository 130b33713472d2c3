"""Times by the thousand in little memory: a histogram whose buckets are a hundredth apart."""

from __future__ import annotations

import math

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Percentiles

_STEP = math.log(1.01)
_SHARES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999))


class Times:
    """Collects times in nanoseconds; `percentiles` are exact to one in a hundred."""

    def __init__(self) -> None:
        self.count = 0
        self._least = self._most = 0
        self._buckets: dict[int, int] = {}

    def add(self, nanoseconds: int) -> None:
        self._least = min(self._least, nanoseconds) if self.count else nanoseconds
        self._most = max(self._most, nanoseconds)
        self.count += 1
        bucket = int(math.log(max(nanoseconds, 1)) / _STEP)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1

    def percentiles(self) -> Percentiles:
        """In microseconds; None for each where nothing was collected."""
        result: Percentiles = {
            "count": self.count,
            "min": None,
            "p50": None,
            "p90": None,
            "p99": None,
            "p99_9": None,
            "max": None,
        }
        if self.count:
            result["min"], result["max"] = round(self._least / 1000, 1), round(self._most / 1000, 1)
            for name, share in _SHARES:
                result[name] = round(self._at(share) / 1000, 1)  # type: ignore[literal-required]
        return result

    def _at(self, share: float) -> float:
        """The time that `share` of all do not exceed: the middle of its bucket, within what was measured."""
        wanted = share * self.count
        for bucket in sorted(self._buckets):
            wanted -= self._buckets[bucket]
            if wanted <= 0:
                return min(max(math.exp((bucket + 0.5) * _STEP), self._least), self._most)
        return self._most
