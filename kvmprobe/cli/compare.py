"""`kvmprobe compare OLD NEW`: what changed between two reports, and whether it is worse."""

from __future__ import annotations

import json

from kvmprobe import TYPE_CHECKING
from kvmprobe.cli.report_arguments import add_arguments as add_result_arguments
from kvmprobe.cli.report_arguments import add_exit_status, add_require, requirements_of

if TYPE_CHECKING:
    import argparse

    from kvmprobe.compare.comparison import Comparison

DESCRIPTION = """\
Compares two reports: verdict, checks, registers, features, parameters, trace
and times. Shows what changed, and whether it is worse. Both reports are judged
again by the rules of this version.

Of two folders ('kvmprobe lab matrix --reports') it compares the reports that
have the same path below their folder. If each folder has reports of one kernel
only, it compares those of the same scenario.
"""
EPILOG = """\
exit status:
  0   the same, or better
  1   something is worse, or a scenario that OLD has was lost in NEW
  64  wrong arguments
  65  a file is damaged, or is no report (1 where something is worse)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kvmprobe compare`."""
    parser.add_argument("old", metavar="OLD", help="a report (kvmprobe --json), or a folder of reports")
    parser.add_argument("new", metavar="NEW", help="the report or folder to compare with OLD; - is standard input")
    parser.add_argument("--strict", action="store_true", help="what changed counts as worse")
    add_require(parser, "also compare whether both hosts have this")
    add_result_arguments(parser, "also show what is the same, and each report of a folder", "show the last line only")
    add_exit_status(parser, "comparison")


def run(options: argparse.Namespace) -> int:
    """Compare, and write the result. Returns 1 where something is worse; raises Problem."""
    from kvmprobe.compare import report_pairs
    from kvmprobe.report import messages, output, targets

    if options.output is not None:
        targets.check_target(options.output)
    requirements = requirements_of(options) or ()
    comparison = report_pairs.read(options.old, options.new, strict=options.strict, requirements=requirements)
    for path, error in comparison.bad.items():
        messages.say(f"kvmprobe: {path}: {error}")
    output.write_result(_render(comparison, options), options)
    return comparison.exit_status()


def _render(comparison: Comparison, options: argparse.Namespace) -> str:
    from kvmprobe.formats import FORMATS
    from kvmprobe.report import terminal

    chosen = FORMATS[options.format]
    if chosen.of_suites:
        from kvmprobe.compare import comparison_cases

        return chosen.render_suite(comparison_cases.suite(comparison))
    if options.format == "json":
        from kvmprobe.compare.comparison_json import comparison_data

        return json.dumps(comparison_data(comparison, options.verbose > 0), indent=1) + "\n"
    from kvmprobe.compare import comparison_text

    verbose = -1 if options.quiet else options.verbose
    if options.output is not None:
        return comparison_text.render(comparison, verbose)
    return comparison_text.render(comparison, verbose, terminal.wants_colour(), terminal.width())
