"""What `kvmprobe lab run`, `trace` and `soak` share: boot kernels one by one, run a command in each, report."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvmprobe.cli import lab_options, report_arguments
from kvmprobe.formats import FORMATS, SUITE_FORMATS
from kvmprobe.lab import cache, kernels, lab_cases, userspace
from kvmprobe.lab.boot_result import ANSWERED, console_lines
from kvmprobe.lab.booted_probe import GUEST, GUEST_WITHOUT_MODULES, BootedReport, Guest, probe
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.qemu import DEADLINE_S, MACHINE, Machine
from kvmprobe.model.errors import EXIT_CONFIRMED, EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_NOT_APPLICABLE, UsageProblem
from kvmprobe.model.printable import clean, cut
from kvmprobe.report import output, targets, terminal
from kvmprobe.report.messages import say
from kvmprobe.report.write_report import status_by_reason

_WORST_LAST = (EXIT_CONFIRMED, EXIT_NOT_APPLICABLE, EXIT_INCONCLUSIVE, EXIT_FAILED)
_CONSOLE_LINES = 10
_GUEST_LINES = 40
_LONGEST = 500  # characters of a line of the guest's

_DESCRIPTION = """\
Boots kernels on an emulated AMD machine (QEMU, without KVM), and runs 'kvmprobe
{name}' of this version in each.
"""
_EPILOG = """\
Arguments after -- go to 'kvmprobe {name}' in the guest{default}.
Each kernel is downloaded once. Its folder in the cache may be deleted.

This machine judges the evidence that the guest leaves.

exit status: that of the verdict; without a verdict that of 'kvmprobe {name}'
in the guest; 3 if the guest did not answer; the worst one of several kernels
"""


@dataclass(frozen=True)
class GuestCommand:
    """The command of kvmprobe that runs in the guests: `name`, and the `arguments` that it has by default.

    `kernels` are the suites that boot if the user names none, `deadline` is in seconds.
    """

    name: str
    kernels: Sequence[str]
    arguments: Sequence[str] = ()
    deadline: float = DEADLINE_S


def texts(command: GuestCommand) -> tuple[str, str]:
    """Return the DESCRIPTION and the EPILOG of the command of the lab that runs `command` in guests."""
    default = f"; without it:\n{' '.join(command.arguments)}" if command.arguments else ""
    return _DESCRIPTION.format(name=command.name), _EPILOG.format(name=command.name, default=default)


def add_arguments(parser: argparse.ArgumentParser, command: GuestCommand) -> None:
    """Add the arguments that the three commands share. `guest_arguments` of the parsed options comes from lab.py."""
    known = ", ".join(f"{row.suite} ({row.series})" for row in kernels.DEBIAN)
    parser.usage = "%(prog)s [option ...] [KERNEL ...] [-- ARGUMENT ...]"
    parser.add_argument(
        "kernels",
        metavar="KERNEL",
        nargs="*",
        help=f"Debian's kernels: {known}; without KERNEL: {' '.join(command.kernels)}",
    )
    lab_options.add_own_kernel(parser)
    parser.add_argument("--cpu", metavar="MODEL", default=MACHINE.cpu, help="set QEMU's -cpu (default: %(default)s)")
    parser.add_argument(
        "--cpus", metavar="N", type=int, default=MACHINE.cpus, help="boot with N CPUs (default: %(default)s)"
    )
    parser.add_argument("--memory", metavar="SIZE", default=MACHINE.memory, help="set QEMU's -m (default: %(default)s)")
    parser.add_argument("--append", metavar="CMDLINE", default="", help="add parameters to the kernel's command line")
    lab_options.add_boot(parser, command.deadline)
    parser.add_argument("--keep-console", action="store_true", help="keep the console log even if the guest answers")
    parser.add_argument("--reports", metavar="DIR", type=Path, help="write each report to DIR/KERNEL.json, too")
    report_arguments.add_arguments(parser)
    report_arguments.add_expect(parser)
    report_arguments.add_exit_status(parser)


def run(options: argparse.Namespace, command: GuestCommand) -> int:
    """Boot the kernels and report. Returns the worst exit status; raises Problem."""
    _check(options)
    machine = Machine(options.cpu, options.cpus, options.memory, options.append)
    folder = options.cache or cache.default()
    in_suites = options.format in SUITE_FORMATS
    arguments = options.guest_arguments or command.arguments
    results: list[tuple[Kernel, BootedReport]] = []
    rendered: list[str] = []
    for kernel in lab_options.chosen_kernels(options, options.kernels or command.kernels, folder):
        if not options.quiet:
            say(f"{kernel.name}: booting {kernel.release} …")
        booted = probe(
            kernel,
            folder,
            arguments,
            _guest(kernel, arguments, folder),
            machine=machine,
            deadline=options.deadline,
            keep_console=options.keep_console,
            name=command.name,
        )
        for line in _progress(kernel, booted, options):
            say(line)
        results.append((kernel, booted))
        if options.reports and booted.report is not None:
            output.write(FORMATS["json"].render(booted.report), str(options.reports / f"{kernel.name}.json"))
        if not in_suites:
            rendered.append(_rendered(booted, options))
            if options.output is None:
                output.write(rendered[-1], None)
    if in_suites:
        output.write_result(SUITE_FORMATS[options.format](lab_cases.of_run(results)), options)
    elif options.output is not None:
        output.write_result("".join(rendered), options)
    return worst([_status(booted, options.expect) for _, booted in results])


def _guest(kernel: Kernel, arguments: Sequence[str], folder: Path) -> Guest:
    """The software for the guest: that of this machine, or an image. A root over 9p does not survive suspend."""
    guest = GUEST if kernel.loads_modules else GUEST_WITHOUT_MODULES
    if "--suspend" not in arguments:
        return guest
    programs = userspace.fetch(kernel.userspace, folder, say)
    return dataclasses.replace(guest, root=programs.root, image=programs.image, suspends=True)


def _status(booted: BootedReport, expected: str | None) -> int:
    """Return the exit status for one boot; `expected` is the reason of --expect."""
    if booted.boot.status is None:
        return EXIT_INCONCLUSIVE
    if booted.report is None or expected is None:
        return booted.boot.status
    return status_by_reason(booted.report, expected)


def worst(statuses: Sequence[int]) -> int:
    """Return the worst exit status. A status that no verdict has is worse than all others."""
    return max(statuses, key=lambda status: _WORST_LAST.index(status) if status in _WORST_LAST else len(_WORST_LAST))


def _check(options: argparse.Namespace) -> None:
    lab_options.check_boot(options, options.kernels)
    if options.cpus < 1:
        raise UsageProblem(f"--cpus {options.cpus}: not a number of CPUs", "Give 1 or more.")
    if options.reports and not options.reports.is_dir():
        raise UsageProblem(f"--reports {options.reports}: is not a folder", "Make the folder first.")
    if options.output is not None:
        targets.check_target(options.output)


def _progress(kernel: Kernel, booted: BootedReport, options: argparse.Namespace) -> Iterator[str]:
    """The outcome of a boot in lines for the person who waits; with -q only problems."""
    boot = booted.boot
    took = f"{kernel.name}: {boot.seconds:.1f} s"
    if boot.outcome != ANSWERED:
        yield f"{took}: {boot.outcome}: {boot.reason}"
    elif booted.report is None:
        yield f"{took}: kvmprobe in the guest ended with status {boot.status}"
    elif not options.quiet:
        verdict = booted.report["verdict"]
        yield f"{took}: {verdict['status']} {verdict['reason']}"
    lines = [*boot.notes, *boot.stderr.splitlines()]
    for line in lines[:_GUEST_LINES]:
        yield f"  in the guest: {cut(clean(line), _LONGEST)}"
    if len(lines) > _GUEST_LINES:
        yield f"  in the guest: {len(lines) - _GUEST_LINES} more lines"
    if boot.outcome != ANSWERED or options.keep_console:
        lines = console_lines(boot.console)[-_CONSOLE_LINES:] if boot.outcome != ANSWERED else []
        yield f"  console log: {boot.console}{', its last lines:' if lines else ''}"
        yield from (f"    {line}" for line in lines)


def _rendered(booted: BootedReport, options: argparse.Namespace) -> str:
    """The report in the chosen format; nothing if there is no report."""
    if booted.report is None:
        return ""
    colour, width = (terminal.wants_colour(), terminal.width()) if options.output is None else (False, None)
    return FORMATS[options.format].render(booted.report, -1 if options.quiet else options.verbose, colour, width)
