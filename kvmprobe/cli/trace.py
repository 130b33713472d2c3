"""`kvmprobe trace`: a check while the kernel traces itself."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.cli.report_arguments import add_no_load, add_report_arguments

if TYPE_CHECKING:
    import argparse

DESCRIPTION = """\
Checks this host, and records with the kernel's own tracing which functions run
on each CPU, from the ioctl to the register, and each write of EFER and
VM_HSAVE_PA. The report compares the trace with the registers that were read.

It needs root and tracefs. It uses a trace instance of its own, which it removes
at the end, and does not change the tracing of others.
"""
EPILOG = """\
exit status: that of the verdict, see 'kvmprobe --help'; 3 also where the kernel
cannot be traced.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kvmprobe trace`."""
    add_no_load(parser)
    parser.add_argument(
        "--reload",
        action="store_true",
        help="load kvm_amd during the trace, and leave it loaded; unload it first if it is loaded and unused",
    )
    parser.add_argument(
        "--mount", action="store_true", help="mount tracefs for this process only, if it is not mounted"
    )
    add_report_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Trace a check. Returns the exit status; raises Problem where the kernel cannot be traced."""
    from kvmprobe.collect.host_evidence import CollectOptions, take_evidence
    from kvmprobe.collect.trace.trace_instance import TraceInstance
    from kvmprobe.collect.trace.traced_probe import TracedProbe
    from kvmprobe.collect.trace.tracefs import find_tracefs
    from kvmprobe.report import write_report

    write_report.check_targets(options)
    with TraceInstance(find_tracefs(options.mount)) as instance:
        evidence = take_evidence(
            CollectOptions(load=not options.no_load), lambda root: TracedProbe(root, instance, options.reload)
        )
    return write_report.write_host_report(evidence, options)
