"""The commands `kvmprobe lab run`, `soak` and `trace`: boot kernels, run a command in each, print their reports."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvmprobe import formats
from kvmprobe.cli import lab_matrix, lab_options, report_arguments
from kvmprobe.formats import SUITE_FORMATS
from kvmprobe.lab import cache, kernels, lab_cases
from kvmprobe.lab.booted_probe import Answer, probe
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.outcome import ANSWERED, console_lines
from kvmprobe.lab.qemu import DEADLINE_S, MACHINE, Machine
from kvmprobe.model.errors import EXIT_CONFIRMED, EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_NOT_APPLICABLE, UsageProblem
from kvmprobe.report import output, targets, terminal
from kvmprobe.report.messages import say

DESCRIPTION = """\
Boots real kernels on emulated AMD machines (QEMU; neither KVM nor an AMD
processor is needed).
"""
EPILOG = ""

_WORST_LAST = (EXIT_CONFIRMED, EXIT_NOT_APPLICABLE, EXIT_INCONCLUSIVE, EXIT_FAILED)
_CONSOLE_LINES = 10

_EPILOG = """\
What follows -- goes to 'kvmprobe {name}' in the guest{usual}.
A kernel is downloaded once; its folder in the cache may be deleted.

exit status: the guest's own; 3 where it did not answer; of several kernels the
worst.
"""


@dataclass(frozen=True)
class _InGuest:
    """A command of the lab that runs kvmprobe's command `name` in guests, usually on `kernels` with `arguments`."""

    name: str
    help: str
    kernels: Sequence[str]
    arguments: Sequence[str] = ()
    deadline: float = DEADLINE_S


_ALL = tuple(row.suite for row in kernels.DEBIAN)
_IN_GUEST = {
    "run": _InGuest("check", "boot kernels and probe each of them", kernels.USUAL),
    "trace": _InGuest("trace", "boot kernels and trace each of them", kernels.USUAL, ("--mount", "--reload")),
    "soak": _InGuest(
        "soak",
        "boot kernels and soak each of them",
        _ALL,
        ("--cycles", "20", "--vms", "2", "--hotplug", "--reload", "--kill"),
        5 * DEADLINE_S,
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what follows `kvmprobe lab` to its parser. `run` of the parsed options is the function to call."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_splitting(type(parser)))
    for name, what in _IN_GUEST.items():
        _add_in_guest(commands.add_parser(name, **_texts(what)), what)
    matrix = commands.add_parser(
        "matrix",
        help="boot every scenario on every kernel",
        description="Boots each way in which a kernel accepts or refuses SVM, on each kernel, and\nsees whether "
        "kvmprobe names it rightly. In the guests are the programs of the\nkernel's own Debian release.",
    )
    lab_matrix.add_arguments(matrix)


def _texts(what: _InGuest) -> dict[str, Any]:
    usual = f"; without it:\n{' '.join(what.arguments)}" if what.arguments else ""
    return {
        "help": what.help,
        "description": f"Boots kernels in an emulated AMD machine (QEMU, no KVM needed) and runs this\n'kvmprobe "
        f"{what.name}' in them.",
        "usage": "%(prog)s [option ...] [KERNEL ...] [-- ARGUMENT ...]",
        "epilog": _EPILOG.format(name=what.name, usual=usual),
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def _add_in_guest(run: argparse.ArgumentParser, what: _InGuest) -> None:
    known = ", ".join(f"{row.suite} ({row.series})" for row in kernels.DEBIAN)
    run.add_argument(
        "kernels",
        metavar="KERNEL",
        nargs="*",
        help=f"Debian's kernels: {known}; without any: {' '.join(what.kernels)}",
    )
    lab_options.add_own_kernel(run)
    run.add_argument("--cpu", metavar="MODEL", default=MACHINE.cpu, help="QEMU's -cpu (%(default)s)")
    run.add_argument("--cpus", metavar="N", type=int, default=MACHINE.cpus, help="how many CPUs (%(default)s)")
    run.add_argument("--memory", metavar="SIZE", default=MACHINE.memory, help="QEMU's -m (%(default)s)")
    run.add_argument("--append", metavar="CMDLINE", default="", help="more parameters for the kernel's command line")
    lab_options.add_boot(run, what.deadline)
    run.add_argument("--keep-console", action="store_true", help="keep the console's log even if all went well")
    run.add_argument("--reports", metavar="DIR", type=Path, help="write each report to DIR/KERNEL.json, too")
    report_arguments.add_arguments(run)
    run.set_defaults(run=main, what=what)


def main(chosen: argparse.Namespace) -> int:
    """Runs `kvmprobe lab run`, `trace` or `soak`. Returns the exit status; raises Problem."""
    lab_options.check_boot(chosen)
    if chosen.cpus < 1:
        raise UsageProblem(f"--cpus {chosen.cpus}: not a number of CPUs", "Give 1 or more.")
    if chosen.reports and not chosen.reports.is_dir():
        raise UsageProblem(f"--reports {chosen.reports}: is not a folder", "Make the folder first.")
    folder = chosen.cache or cache.default()
    machine = Machine(chosen.cpu, chosen.cpus, chosen.memory, chosen.append)
    statuses = []
    shown: list[str] = []
    answers: list[tuple[Kernel, Answer]] = []
    if chosen.output is not None:
        targets.check_target(chosen.output)
    for kernel in _kernels(chosen, folder):
        say(f"{kernel.name}: booting {kernel.release} …")
        answer = probe(
            kernel,
            folder,
            chosen.probe_arguments or chosen.what.arguments,
            machine=machine,
            deadline=chosen.deadline,
            keep_console=chosen.keep_console,
            name=chosen.what.name,
        )
        for line in _tell(kernel, answer, chosen.keep_console):
            say(line)
        answers.append((kernel, answer))
        if chosen.reports and answer.report is not None:
            output.write(answer.boot.stdout.decode(), str(chosen.reports / f"{kernel.name}.json"))
        if chosen.format not in SUITE_FORMATS:
            shown.append(_shown(answer, chosen))
            if chosen.output is None:
                output.write(shown[-1], None)
        statuses.append(EXIT_INCONCLUSIVE if answer.boot.status is None else answer.boot.status)
    if chosen.format in SUITE_FORMATS:
        output.write_result(SUITE_FORMATS[chosen.format](lab_cases.of_run(answers)), chosen)
    elif chosen.output is not None:
        output.write_result("".join(shown), chosen)
    return worst(statuses)


def worst(statuses: Sequence[int]) -> int:
    """The worst exit status; what is none of a verdict's is worse than all of those."""
    return max(statuses, key=lambda status: _WORST_LAST.index(status) if status in _WORST_LAST else len(_WORST_LAST))


def _kernels(chosen: argparse.Namespace, folder: Path) -> Iterator[Kernel]:
    """The kernels that were asked for, each made ready when it is its turn."""
    own = lab_options.own_kernel(chosen, chosen.kernels, folder)
    if own is not None:
        yield own
        return
    for name in chosen.kernels or chosen.what.kernels:
        yield kernels.fetch(kernels.debian(name), folder, say)


def _tell(kernel: Kernel, answer: Answer, keep_console: bool) -> Iterator[str]:
    """The outcome for the person who waits."""
    from kvmprobe.model.printable import clean

    boot = answer.boot
    took = f"{kernel.name}: {boot.seconds:.1f} s"
    if boot.outcome != ANSWERED:
        yield f"{took}: {boot.outcome}: {boot.reason}"
    elif answer.report is None:
        yield f"{took}: the guest's kvmprobe ended with status {boot.status}"
    else:
        verdict = answer.report["verdict"]
        yield f"{took}: {verdict['status']} {verdict['reason']}"
    for line in (*boot.notes, *boot.stderr.splitlines()):
        yield f"  in the guest: {clean(line)}"
    if boot.outcome != ANSWERED or keep_console:
        lines = console_lines(boot.console)[-_CONSOLE_LINES:] if boot.outcome != ANSWERED else []
        yield f"  console: {boot.console}{', which ends with' if lines else ''}"
        yield from (f"    {line}" for line in lines)


def _shown(answer: Answer, chosen: argparse.Namespace) -> str:
    """The report as it was asked for; nothing where there is none."""
    if answer.report is None:
        return ""
    if chosen.format == "json":
        return answer.boot.stdout.decode()  # as it came
    colour = chosen.output is None and terminal.wants_colour()
    return formats.render(answer.report, chosen.format, -1 if chosen.quiet else chosen.verbose, colour)


def _splitting(parser_class: type[argparse.ArgumentParser]) -> type[argparse.ArgumentParser]:
    """A parser that keeps what follows the first `--` for the guest, and takes a KERNEL anywhere before it.

    argparse alone takes all of it for KERNEL, or, behind an option, none.
    """

    class Splitting(parser_class):  # type: ignore[misc, valid-type]
        def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
            mine = list(sys.argv[1:] if args is None else args)
            cut = mine.index("--") if "--" in mine else len(mine)
            namespace, unknown = super().parse_known_args(mine[:cut], namespace)
            namespace.probe_arguments = mine[cut + 1 :]
            if hasattr(namespace, "kernels"):  # KERNEL may stand between options
                namespace.kernels += [word for word in unknown if not word.startswith("-")]
                unknown = [word for word in unknown if word.startswith("-")]
            return namespace, unknown

    return Splitting
