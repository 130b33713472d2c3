"""One boot in which kvmprobe runs and from which its report comes back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kvmprobe.lab import guest_program, nested, payload, qemu
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.outcome import ANSWERED, LOST, BootResult
from kvmprobe.lab.qemu import DEADLINE_S, MACHINE, Boot, Machine
from kvmprobe.lab.tools import Say
from kvmprobe.model.errors import EXIT_CONFIRMED, EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_NOT_APPLICABLE, Problem

if TYPE_CHECKING:
    from kvmprobe.model.judgement import Report

_VERDICTS = (EXIT_CONFIRMED, EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_NOT_APPLICABLE)  # these come with a report


@dataclass(frozen=True)
class Guest:
    """What runs in the machine: `root` is the folder that is its root, with the Python that runs kvmprobe.

    `image` is the same as an image, to boot from. `prepare` are lines of sh that run before kvmprobe, `user` is who
    runs it.
    """

    root: Path = Path("/")
    image: Path | None = None
    prepare: Sequence[str] = ("modprobe kvm_amd",)  # as udev does on a machine with SVM
    user: int = 0


GUEST = Guest()


@dataclass(frozen=True)
class Answer:
    """A boot and the report that came out of it; None where it was not answered or the command gives none."""

    boot: BootResult
    report: Report | None


def boot(
    kernel: Kernel,
    folder: Path,
    command: Sequence[str],
    guest: Guest = GUEST,
    machine: Machine = MACHINE,
    deadline: float = DEADLINE_S,
    outer: Kernel | None = None,
    say: Say = lambda _: None,
) -> BootResult:
    """Boots `kernel` and runs `command` in it, in a folder with kvmprobe. `folder` is the lab's cache.

    A machine whose firmware sets VM_CR runs inside one with the kernel `outer`. Raises Problem.
    """
    if guest.user:
        user = str(guest.user)
        command = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", *command]
    added = guest_program.archive(guest_program.python(guest.root), payload.LAB, folder, say)
    added += payload.archive(guest.prepare, command)
    plan = Boot(kernel, added, machine, guest.image or guest.root, deadline)
    if machine.vm_cr is None:
        return qemu.boot(plan, folder / "logs")
    if outer is None:
        raise Problem("a machine whose firmware sets VM_CR needs an outer kernel")
    with nested.nest(plan, outer) as around:
        result = qemu.boot(around, folder / "logs")
    if result.status == nested.LOST:
        result = _lost(result)
    return result


def probe(
    kernel: Kernel,
    folder: Path,
    arguments: Sequence[str] = (),
    guest: Guest = GUEST,
    machine: Machine = MACHINE,
    deadline: float = DEADLINE_S,
    keep_console: bool = False,
    outer: Kernel | None = None,
    say: Say = lambda _: None,
    name: str = "check",
) -> Answer:
    """Boots `kernel` and runs `kvmprobe NAME --json ARGUMENTS` in it; see `boot`.

    The console's log stays in `folder`/logs unless the guest answered, and with `keep_console`. An exit status that
    promises a report is no answer without one. Raises Problem.
    """
    command = guest_program.python(guest.root).command("-m", "kvmprobe", name, "--json", *arguments)
    result = boot(kernel, folder, command, guest, machine, deadline, outer, say)
    report = _report(result.stdout) if result.outcome == ANSWERED else None
    if report is None and result.status in _VERDICTS:
        result = _lost(result)
    if result.outcome == ANSWERED and not keep_console:
        result.console.unlink(missing_ok=True)
    return Answer(result, report)


def _lost(result: BootResult) -> BootResult:
    said = "".join(f": {line}" for line in result.stderr.strip().splitlines()[-1:])
    reason = f"the command ended with status {result.status} and without a report{said}"
    return dataclasses.replace(result, outcome=LOST, reason=reason, status=None)


def _report(stdout: bytes) -> Report | None:
    try:
        report = json.loads(stdout)
    except ValueError:
        return None
    return cast("Report", report) if isinstance(report, dict) and "verdict" in report else None
