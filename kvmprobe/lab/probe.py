"""One boot in which kvmprobe runs and from which its report comes back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvmprobe.errors import EXIT_CONFIRMED, EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_NOT_APPLICABLE
from kvmprobe.lab import payload, program, qemu
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.outcome import ANSWERED, LOST, BootResult
from kvmprobe.lab.qemu import DEADLINE_S, MACHINE, Boot, Machine
from kvmprobe.lab.tools import Say

_VERDICTS = (EXIT_CONFIRMED, EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_NOT_APPLICABLE)  # these come with a report


@dataclass(frozen=True)
class Guest:
    """What runs in the machine: `root` is the folder that is its root, with the Python that runs kvmprobe.

    `prepare` are lines of sh that run before kvmprobe.
    """

    root: Path = Path("/")
    prepare: Sequence[str] = ("modprobe kvm_amd",)  # as udev does on a machine with SVM


GUEST = Guest()


@dataclass(frozen=True)
class Answer:
    """A boot and the report that came out of it; None where it was not answered or the command gives none."""

    boot: BootResult
    report: dict[str, Any] | None


def probe(
    kernel: Kernel,
    folder: Path,
    arguments: Sequence[str] = (),
    guest: Guest = GUEST,
    machine: Machine = MACHINE,
    deadline: float = DEADLINE_S,
    keep_console: bool = False,
    say: Say = lambda _: None,
) -> Answer:
    """Boots `kernel` and runs `kvmprobe check --json ARGUMENTS` in it. `folder` is the lab's cache.

    The console's log stays in `folder`/logs unless the guest answered, and with `keep_console`. An exit status that
    promises a report is no answer without one. Raises Problem.
    """
    python = program.python(guest.root)
    added = program.archive(python, payload.LAB, folder, say)
    added += payload.archive(guest.prepare, python.command("-m", "kvmprobe", "check", "--json", *arguments))
    boot = qemu.boot(Boot(kernel, added, machine, guest.root, deadline), folder / "logs")
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
