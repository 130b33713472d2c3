"""Exit statuses as `git bisect run` reads them: 0 good, 1 bad, 125 skip this commit, 128 and more stop."""

from __future__ import annotations

from kvmprobe.model.errors import EXIT_CONFIRMED, EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_NOT_APPLICABLE

SKIP = 125
_BY_STATUS = {
    EXIT_CONFIRMED: 0,
    EXIT_FAILED: 1,
    EXIT_INCONCLUSIVE: SKIP,  # a lost boot, too
    EXIT_NOT_APPLICABLE: SKIP,
}
_STOP = 128


def bisect_status(status: int) -> int:
    """The exit status for `git bisect run`, by kvmprobe's own.

    Wrong arguments, damaged files and defects of kvmprobe (64, 65, 70) stop the bisection, as signals do: no commit is
    to blame for them.
    """
    return _BY_STATUS.get(status, status if status >= _STOP else _STOP + status)
