"""`kvmprobe check`: takes evidence on this host, judges it, reports."""

from __future__ import annotations

import os
import sys

from kvmprobe import TYPE_CHECKING
from kvmprobe.cli.report_arguments import add_report_arguments
from kvmprobe.model.errors import Problem, UsageProblem

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Takes evidence on this host, creates and destroys one VM, judges, reports. Reads MSRs, never writes one. As "
        "root it sees everything; as an ordinary user what the rights allow."
    )
    parser.add_argument("--no-load", action="store_true", help="do not load msr and cpuid for the time of the probe")
    parser.add_argument("--load-kvm", action="store_true", help="try to load kvm_amd where it is missing, and leave it")
    parser.add_argument(
        "--passive", action="store_true", help="create no VM, do not open /dev/kvm: what stands in the way, if anything"
    )
    parser.add_argument(
        "--sysroot", metavar="DIR", default="/", help="read /proc, /sys and /dev below DIR instead of /"
    )
    add_report_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from kvmprobe.collect.host_evidence import CollectOptions, take_evidence
    from kvmprobe.collect.vm_probe import PassiveProbe, VmProbe
    from kvmprobe.report import write_report

    if not os.path.isdir(options.sysroot):
        raise UsageProblem(f"--sysroot {options.sysroot}: is not a folder")
    if options.load_kvm and os.path.realpath(options.sysroot) != "/":
        raise UsageProblem("--load-kvm would load it on this machine, not in --sysroot", "Leave one of them out.")
    if options.load_kvm and options.passive:
        raise UsageProblem("--passive changes nothing, and --load-kvm would load kvm_amd", "Leave one of them out.")
    if not sys.platform.startswith("linux"):
        raise Problem("KVM is part of Linux, and this is not Linux")
    write_report.check_targets(options)
    wanted = CollectOptions(load=not options.no_load, load_kvm=options.load_kvm, sysroot=options.sysroot)
    evidence = take_evidence(wanted, PassiveProbe if options.passive else VmProbe)
    return write_report.write_here(evidence, options)
