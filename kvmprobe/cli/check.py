"""`kvmprobe check`: take evidence on this host, judge it, report."""

from __future__ import annotations

import os
import sys

from kvmprobe import TYPE_CHECKING
from kvmprobe.cli.report_arguments import (
    add_exit_status,
    add_expect,
    add_nested,
    add_no_load,
    add_report_arguments,
    add_require,
    requirements_of,
)
from kvmprobe.model.errors import Problem, UsageProblem

if TYPE_CHECKING:
    import argparse

DESCRIPTION = """\
Creates a VM on this host, runs a guest of a few instructions in it on each CPU
(see --cpus), and reports whether KVM can use SVM. It reads EFER and VM_CR of
every CPU before the VM, while it exists and after it. It also reads CPUID,
KVM's modules and the kernel's log.

It reads MSRs and never writes them. It loads the modules msr and cpuid if they
are missing, and unloads them at the end. Root can read everything, another user
what the permissions allow. What could not be read is reported as unknown.
"""
EPILOG = """\
exit status: that of the verdict, see 'kvmprobe --help'; or as --expect and
--exit-status ask.
"""

_SEV = ("sev", "sev-es", "sev-snp")  # the requirements that imply --sev


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kvmprobe check`."""
    add_no_load(parser)
    parser.add_argument("--load-kvm", action="store_true", help="load kvm_amd if it is missing; it stays loaded")
    text = "create no VM and do not open /dev/kvm; report only what prevents KVM from using SVM"
    parser.add_argument("--passive", action="store_true", help=text)
    parser.add_argument(
        "--sysroot", metavar="DIR", default="/", help="read /proc, /sys and /dev below DIR instead of /"
    )
    text = "run the guest on these CPUs only, like 0-3,8 (default: all, except isolated ones where KVM set EFER.SVME)"
    parser.add_argument("--cpus", metavar="LIST", type=cpu_list, help=text)
    add_nested(parser)
    text = (
        "also find out whether KVM can run SEV, SEV-ES and SEV-SNP guests; reads registers of memory encryption and "
        "asks /dev/sev for the firmware's state, and changes nothing"
    )
    parser.add_argument("--sev", action="store_true", help=text)
    add_report_arguments(parser)
    add_expect(parser)
    add_require(parser)
    add_exit_status(parser)


def cpu_list(text: str) -> list[int]:
    """Return the CPUs of a list in the kernel's format. Raises argparse.ArgumentTypeError."""
    from argparse import ArgumentTypeError

    from kvmprobe.model.cpu_lists import parse_cpulist

    try:
        cpus = parse_cpulist(text)
    except ValueError:
        cpus = []
    if not cpus:
        raise ArgumentTypeError(f"{text!r} is not a list of CPUs like 0-3,8")
    return cpus


def run(options: argparse.Namespace) -> int:
    """Check this host. Returns the exit status; raises Problem."""
    from kvmprobe.collect.host_evidence import CollectOptions, take_evidence
    from kvmprobe.collect.vm_probe import PassiveProbe, VmProbe
    from kvmprobe.host.cpus import online_cpus
    from kvmprobe.host.sysroot import Sysroot
    from kvmprobe.model.cpu_lists import cpu_names
    from kvmprobe.report import write_report

    if not os.path.isdir(options.sysroot):
        raise UsageProblem(f"--sysroot {options.sysroot}: is not a folder", "Name a folder that has proc, sys and dev.")
    if options.load_kvm and os.path.realpath(options.sysroot) != "/":
        raise UsageProblem("--load-kvm loads kvm_amd on this host, not in --sysroot", "Omit one of them.")
    if options.load_kvm and options.passive:
        raise UsageProblem("--passive changes nothing, --load-kvm loads kvm_amd", "Omit one of them.")
    if not sys.platform.startswith("linux"):
        raise Problem(f"KVM is part of Linux, and this is {sys.platform}", "Run kvmprobe on the Linux host itself.")
    write_report.check_targets(options)
    requirements = requirements_of(options)
    if options.passive and options.cpus:
        raise UsageProblem("--passive runs no guest, --cpus says where it runs", "Omit one of them.")
    if options.passive and options.nested:
        raise UsageProblem("--passive runs no guest, --nested runs a guest in a guest", "Omit one of them.")
    missing = set(options.cpus).difference(online_cpus(Sysroot(options.sysroot))) if options.cpus else ()
    if missing:
        raise UsageProblem(
            f"--cpus: {cpu_names(missing)} is not online", "Name CPUs of /sys/devices/system/cpu/online."
        )
    allowed = CollectOptions(
        load=not options.no_load,
        load_kvm=options.load_kvm,
        sysroot=options.sysroot,
        sev=options.sev or any(requirement.name in _SEV for requirement in requirements or ()),
    )
    evidence = take_evidence(
        allowed, PassiveProbe if options.passive else lambda root: VmProbe(root, options.cpus, options.nested)
    )
    return write_report.write_host_report(evidence, options, requirements or ())
