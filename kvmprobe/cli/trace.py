"""The command `trace`."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.cli import report_arguments
from kvmprobe.collect.host_evidence import CollectOptions, take_evidence
from kvmprobe.collect.trace.trace_instance import TraceInstance
from kvmprobe.collect.trace.traced_probe import TracedProbe
from kvmprobe.collect.trace.tracefs import find_tracefs
from kvmprobe.report import write_report

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "A check during which the kernel's own tracing is a witness too: its functions from the ioctl to the register "
        "on each CPU, and each write of EFER and VM_HSAVE_PA. By a trace instance of its own, which is removed again."
    )
    parser.add_argument("--no-load", action="store_true", help="do not load msr and cpuid for the time of the probe")
    parser.add_argument(
        "--load",
        action="store_true",
        help="trace kvm_amd being loaded (it stays loaded); if it is loaded, and no VM uses it, it is unloaded first",
    )
    parser.add_argument(
        "--mount", action="store_true", help="where tracefs is not mounted, mount it, for this process alone"
    )
    report_arguments.add_report_arguments(parser)
    parser.set_defaults(run=main)


def main(options: argparse.Namespace) -> int:
    """A probe that is traced, and its report. Raises Problem where the kernel's tracing cannot be used."""
    write_report.check_targets(options)
    wanted = CollectOptions(load=not options.no_load)
    with TraceInstance(find_tracefs(options.mount)) as instance:
        evidence = take_evidence(wanted, lambda root: TracedProbe(root, instance, options.load))
    return write_report.write_here(evidence, options)
