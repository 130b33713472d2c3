"""One boot in which kvmprobe runs and from which its report comes back."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvmprobe.errors import EXIT_CONFIRMED, EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_NOT_APPLICABLE
from kvmprobe.lab import payload, qemu
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.outcome import ANSWERED, LOST, BootResult
from kvmprobe.lab.qemu import DEADLINE_S, MACHINE, Boot, Machine

_VERDICTS = (EXIT_CONFIRMED, EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_NOT_APPLICABLE)  # these come with a report


@dataclass(frozen=True)
class Guest:
    """What runs in the machine: `root` is the folder that is its root, `python` an interpreter in there.

    `prepare` are lines of sh that run before kvmprobe.
    """

    root: Path = Path("/")
    python: str = sys.executable
    prepare: Sequence[str] = ("modprobe kvm_amd",)  # as udev does on a machine with SVM


GUEST = Guest()


@dataclass(frozen=True)
class Answer:
    """A boot and the report that came out of it; None where it was not answered or the command gives none."""

    boot: BootResult
    report: dict[str, Any] | None


def probe(
    kernel: Kernel,
    logs: Path,
    arguments: Sequence[str] = (),
    guest: Guest = GUEST,
    machine: Machine = MACHINE,
    deadline: float = DEADLINE_S,
    keep_console: bool = False,
) -> Answer:
    """Boots `kernel` and runs `kvmprobe check --json ARGUMENTS` in it.

    The console's log stays in `logs` unless the guest answered, and with `keep_console`. An exit status that promises a
    report is no answer without one. Raises Problem.
    """
    command = payload.kvmprobe_command(["check", "--json", *arguments], guest.python)
    boot = qemu.boot(Boot(kernel, payload.archive(guest.prepare, command), machine, guest.root, deadline), logs)
    report = _report(boot.stdout) if boot.outcome == ANSWERED else None
    if report is None and boot.status in _VERDICTS:
        said = "".join(f": {line}" for line in boot.stderr.strip().splitlines()[-1:])
        reason = f"the command ended with status {boot.status} and without a report{said}"
        boot = dataclasses.replace(boot, outcome=LOST, reason=reason, status=None)
    if boot.outcome == ANSWERED and not keep_console:
        boot.console.unlink(missing_ok=True)
    return Answer(boot, report)


def _report(stdout: bytes) -> dict[str, Any] | None:
    try:
        report = json.loads(stdout)
    except ValueError:
        return None
    return report if isinstance(report, dict) and "verdict" in report else None
