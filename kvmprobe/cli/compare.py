"""The command `kvmprobe compare`."""

from __future__ import annotations

import argparse
import json

from kvmprobe import __version__
from kvmprobe.cli import report_arguments
from kvmprobe.compare import comparison_cases, comparison_text, report_pairs
from kvmprobe.compare.comparison import Comparison
from kvmprobe.formats import SUITE_FORMATS
from kvmprobe.report import messages, output

SCHEMA = "kvmprobe.compare/1"


_DESCRIPTION = """\
What changed between two reports in verdict, checks, registers, features,
parameters, trace and timing, and whether it is worse. Both are judged anew.
Touches nothing.

Of two folders ('kvmprobe lab matrix --reports') those reports are compared that
have the same path in both; where each holds one kernel only, those of the same
scenario.
"""

_EPILOG = """\
exit status:
  0   the same or better
  1   something is worse, or a lab has lost a report that it had
  64  wrong arguments
  65  a file given is not what it should be (1 where something is worse, too)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `kvmprobe compare`."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("old", metavar="OLD", help="a report made by 'kvmprobe --json', or a folder of them")
    parser.add_argument("new", metavar="NEW", help="the other one; one of two files may be -, standard input")
    report_arguments.add_arguments(
        parser, "what is the same, too, and each report of a folder in full", "the last line alone"
    )
    parser.set_defaults(run=main)


def main(options: argparse.Namespace) -> int:
    """Compares and writes what changed. Returns 1 where something is worse; raises Problem."""
    if options.output is not None:
        output.check_target(options.output)
    comparison = report_pairs.read(options.old, options.new)
    for path, error in comparison.bad.items():
        messages.say(f"kvmprobe: {path}: {error}")
    if options.format == "json":
        text = json.dumps(data(comparison, options.verbose > 0), indent=1) + "\n"
    elif options.format in SUITE_FORMATS:
        text = SUITE_FORMATS[options.format](comparison_cases.suite(comparison))
    else:
        colour = options.output is None and output.wants_colour()
        text = comparison_text.render(comparison, -1 if options.quiet else options.verbose, colour)
    output.write(text, options.output)
    return comparison.exit_status()


def data(comparison: Comparison, same: bool) -> dict[str, object]:
    """For tools, as compare.schema.json describes it; with what is the `same` or without."""
    return {
        "schema": SCHEMA,
        "tool": {"name": "kvmprobe", "version": __version__},
        "rating": comparison.rating,
        "counts": comparison.counts(),
        "pairs": [
            {
                "name": pair.name,
                "rating": pair.rating,
                "old": pair.old,
                "new": pair.new,
                "differences": [difference.data() for difference in pair.sorted(same)],
            }
            for pair in comparison.pairs
        ],
        "singles": [
            {"name": single.name, "side": single.side, "lost": single.lost, "rating": single.rating}
            for single in comparison.singles
        ],
        "bad": [{"file": path, "error": error} for path, error in comparison.bad.items()],
    }
