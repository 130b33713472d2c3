"""The statuses that a verdict can have, and the type of a row in the table of reasons."""

from __future__ import annotations

from kvmprobe.model.errors import EXIT_CONFIRMED, EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_NOT_APPLICABLE

# The exit status by a verdict's status.
EXIT_STATUS = {
    "confirmed": EXIT_CONFIRMED,
    "usable": EXIT_CONFIRMED,
    "failed": EXIT_FAILED,
    "inconclusive": EXIT_INCONCLUSIVE,
    "not applicable": EXIT_NOT_APPLICABLE,
}
BEST_FIRST = ("confirmed", "usable", "not applicable", "inconclusive", "failed")
GOOD = ("confirmed", "usable")  # KVM can use SVM


class Reason:
    """One row of the table.

    `status`: a key of EXIT_STATUS. `when`: what the evidence shows. `kernel`: what the kernel does there, with its
    functions and files. `log`: what it logs. `hint`: what to do, one sentence for each step, commands in backticks.
    """

    def __init__(self, name: str, status: str, when: str, kernel: str, log: str, hint: str) -> None:
        self.name = name
        self.status = status
        self.when = when
        self.kernel = kernel
        self.log = log
        self.hint = hint
