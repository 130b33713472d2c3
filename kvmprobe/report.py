"""From evidence to a report that is written as it was asked for: the end of every command that takes evidence."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING, formats, judge, output
from kvmprobe.reasons import EXIT_STATUS

if TYPE_CHECKING:
    import argparse

    from kvmprobe.shape import Evidence


def check_target(options: argparse.Namespace) -> None:
    """Raises UsageProblem, before any work is done, where --output can never be written."""
    if options.output is not None:
        output.check_target(options.output)


def write(evidence: Evidence, options: argparse.Namespace) -> int:
    """Judges, writes the report as `options` (of output.add_arguments) say, and gives the verdict's exit status."""
    report = judge.judge(evidence)
    colour = options.output is None and output.wants_colour()
    text = formats.render(report, options.format, -1 if options.quiet else options.verbose, colour)
    output.write(text, options.output)
    return EXIT_STATUS[report["verdict"]["status"]]


def write_here(evidence: Evidence, options: argparse.Namespace) -> int:
    """The same for evidence of this host; says on the way what a report's reader would not look for."""
    if evidence["uevents"]["error"] and not options.quiet:
        output.say(f"kvmprobe: one witness less: {evidence['uevents']['error']}")
    for load in evidence["loads"]:
        if load["unloaded"] is False:
            output.say(f"kvmprobe: the module {load['module']} is in use and stays loaded")
    return write(evidence, options)
