"""Boots a kernel, runs kvmprobe in the guest and judges its evidence here.

Only the evidence of the guest counts: a kernel under test may write any verdict.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kvmprobe import judge
from kvmprobe.lab import guest_program, nested_boot, payload, qemu
from kvmprobe.lab.boot_result import ANSWERED, LOST, TIMED_OUT, BootResult
from kvmprobe.lab.external_programs import Say
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.qemu import DEADLINE_S, MACHINE, Boot, Machine
from kvmprobe.model.errors import (
    EXIT_CONFIRMED,
    EXIT_FAILED,
    EXIT_INCONCLUSIVE,
    EXIT_NOT_APPLICABLE,
    DataProblem,
    Problem,
)
from kvmprobe.model.printable import cut
from kvmprobe.model.verdict_status import EXIT_STATUS
from kvmprobe.report import stored_report

if TYPE_CHECKING:
    from kvmprobe.model.judgement import Report

_NAME = "standard output"
_VERDICTS = (EXIT_CONFIRMED, EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_NOT_APPLICABLE)  # with these comes a report
_LONGEST = 500  # characters of a line of the guest's


@dataclass(frozen=True)
class Guest:
    """The software in the machine: `root` is the folder for the guest's root, with the Python that runs kvmprobe.

    `image` has the same content as an image to boot from. `prepare` are lines of sh that run before kvmprobe, `user` is
    the UID that runs it. `folders` are those of this machine that the guest can read, too, at the same paths.
    `suspends`: kvmprobe suspends the guest, which has to have an image.
    """

    root: Path = Path("/")
    image: Path | None = None
    prepare: Sequence[str] = ("modprobe kvm_amd",)  # as udev does on a machine with SVM
    user: int = 0
    folders: Sequence[Path] = ()
    suspends: bool = False


GUEST = Guest()
GUEST_WITHOUT_MODULES = Guest(prepare=())  # kvm_amd is built in


@dataclass(frozen=True)
class BootedReport:
    """A boot and its report; `report` is None if the boot is not ANSWERED or the command wrote no evidence.

    With a report, the boot's `status` is that of the report's verdict.
    """

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
    """Boots `kernel` and runs `command` in the guest, in a folder with kvmprobe. `folder` is the lab's cache.

    A machine whose firmware sets VM_CR runs inside a machine with the kernel `outer`. Raises Problem.
    """
    if guest.user:
        user = str(guest.user)
        command = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", *command]
    python = guest_program.python(guest.root)
    added = guest_program.archive(python, payload.LAB, folder, say)
    added += payload.archive(guest.prepare, command, suspends=guest.suspends)
    plan = Boot(kernel, added, machine, guest.image or guest.root, deadline, (*python.folders, *guest.folders))
    if machine.vm_cr is None:
        return qemu.boot(plan, folder / "logs")
    if outer is None:
        raise Problem("a machine whose firmware sets VM_CR needs an outer kernel")
    with nested_boot.nest(plan, outer) as around:
        result = qemu.boot(around, folder / "logs")
    if result.status == nested_boot.INNER_LOST:
        result = _without_report(result)
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
) -> BootedReport:
    """Boots `kernel` and runs `kvmprobe NAME --json ARGUMENTS` in the guest; see `boot`.

    The report is judged on this machine, from the guest's evidence. A boot is LOST if the exit status is a verdict's
    and there is no evidence. The reason of a boot that is LOST or TIMED_OUT names what `kernel` lacks. The console's
    log stays in `folder`/logs if the boot is not ANSWERED or with `keep_console`. Raises Problem.
    """
    command = guest_program.python(guest.root).command("-m", "kvmprobe", name, "--json", *arguments)
    result = boot(kernel, folder, command, guest, machine, deadline, outer, say)
    report = judged_report(result.stdout) if result.outcome == ANSWERED else None
    if report and "requirements" not in report and any(one.startswith("--require") for one in arguments):
        report = None  # the kernel under test does not decide what is asked
    if result.status in _VERDICTS:
        if report is None:
            result = _without_report(result)
        else:
            result = dataclasses.replace(result, status=EXIT_STATUS[report["verdict"]["status"]])
    if result.outcome in (LOST, TIMED_OUT) and (lacks := kernel.lacking()):
        reason = f"{result.reason}; {lacks} ('kvmprobe lab config' prints what the lab needs)"
        result = dataclasses.replace(result, reason=reason)
    if result.outcome == ANSWERED and not keep_console:
        result.console.unlink(missing_ok=True)
    return BootedReport(result, report)


def _without_report(result: BootResult) -> BootResult:
    last_line = "".join(f": {cut(line, _LONGEST)}" for line in result.stderr.strip().splitlines()[-1:])
    reason = f"the command ended with status {result.status} and without a report{last_line}"
    return dataclasses.replace(result, outcome=LOST, reason=reason, status=None)


def judged_report(stdout: bytes) -> Report | None:
    """Returns the report on the evidence in `stdout`, None if that is not evidence: a guest may write anything.

    What --require asked in the guest is asked again.
    """
    try:
        stdout.decode()  # json.loads would also accept UTF-16, but readers of reports do not
        data = stored_report.parse(stdout, _NAME)
        evidence = stored_report.evidence_of(data, _NAME)
        requirements = stored_report.requirements_of(data, _NAME)
    except (DataProblem, UnicodeDecodeError):
        return None
    return judge.judge(evidence, requirements)
