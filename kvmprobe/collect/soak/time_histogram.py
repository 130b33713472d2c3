"""Any number of times in little memory: a histogram whose buckets are 1 % wide."""

from __future__ import annotations

import math

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmprobe.model.command_evidence import Percentiles

_BUCKET_WIDTH = math.log(1.01)
_SHARES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999))


class TimeHistogram:
    """Collects times in nanoseconds. `count`: how many."""

    def __init__(self) -> None:
        self.count = 0
        self._least = self._most = 0
        self._buckets: dict[int, int] = {}

    def add(self, nanoseconds: int) -> None:
        """Add one time."""
        self._least = min(self._least, nanoseconds) if self.count else nanoseconds
        self._most = max(self._most, nanoseconds)
        self.count += 1
        bucket = int(math.log(max(nanoseconds, 1)) / _BUCKET_WIDTH)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1

    def percentiles(self) -> Percentiles:
        """Return minimum, percentiles and maximum in microseconds; None for each where no time was added.

        Minimum and maximum are exact, the percentiles to 1 %.
        """
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
                result[name] = round(self._percentile(share) / 1000, 1)  # type: ignore[literal-required]
        return result

    def _percentile(self, share: float) -> float:
        """The time that `share` of all times do not exceed: the middle of its bucket, within minimum and maximum."""
        left = share * self.count
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return min(max(math.exp((bucket + 0.5) * _BUCKET_WIDTH), self._least), self._most)
        return self._most
