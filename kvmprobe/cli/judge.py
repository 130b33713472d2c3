"""`kvmprobe judge FILE`: judges evidence taken earlier or elsewhere."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.cli.report_arguments import add_report_arguments, duration

if TYPE_CHECKING:
    import argparse


_NAGIOS_MAX_AGE_S = 26 * 3600  # a daily timer, its random delay, and a long probe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Judges the evidence in FILE again: a report or bare evidence in JSON. Touches nothing."
    parser.add_argument("file", metavar="FILE", help="a report made by 'kvmprobe --json'; - is standard input")
    parser.add_argument(
        "--max-age",
        metavar="DURATION",
        type=duration,
        help="no verdict (exit status 3) if the evidence is older, such as 90m, 26h, 7d, or of the future; without, "
        "nagios has 26h, other formats no limit",
    )
    add_report_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from kvmprobe.report import write_report
    from kvmprobe.report.stored_report import load

    write_report.check_targets(options)
    evidence = load(options.file)
    max_age = _NAGIOS_MAX_AGE_S if options.max_age is None and options.format == "nagios" else options.max_age
    if max_age is not None:
        write_report.check_age(evidence, max_age, options.file)
    return write_report.write(evidence, options)
