"""The command `trace`: its arguments, and its evidence."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.observe import Options, observe
from kvmprobe.trace import tracefs
from kvmprobe.trace.probe import TracedProbe

if TYPE_CHECKING:
    import argparse

    from kvmprobe.shape import Evidence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-load", action="store_true", help="do not load msr and cpuid for the time of the probe")
    parser.add_argument(
        "--load",
        action="store_true",
        help="trace kvm_amd being loaded (it stays loaded); if it is loaded, and no VM uses it, it is unloaded first",
    )
    parser.add_argument(
        "--mount", action="store_true", help="where tracefs is not mounted, mount it, for this process alone"
    )


def take(options: argparse.Namespace) -> Evidence:
    """The evidence of a probe that was traced. Raises Problem where the kernel's tracing cannot be used."""
    with tracefs.Instance(tracefs.find(options.mount)) as instance:
        return observe(Options(load=not options.no_load), lambda root: TracedProbe(root, instance, options.load))
