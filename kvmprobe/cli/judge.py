"""`kvmprobe judge FILE`: judge evidence that was taken earlier or elsewhere."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.cli.report_arguments import (
    add_exit_status,
    add_expect,
    add_report_arguments,
    add_require,
    duration,
    requirements_of,
)
from kvmprobe.formats import FORMATS
from kvmprobe.model.times import format_duration

if TYPE_CHECKING:
    import argparse

DESCRIPTION = """\
Judges the evidence in FILE by the rules of this version, and reports. It reads
nothing of this host, so the evidence may come from another one. What --require
asked in the report is asked again, unless --require is given here: none asks
nothing.
"""
EPILOG = """\
exit status: that of the verdict, see 'kvmprobe --help'; 3 also where --max-age
refuses the evidence.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kvmprobe judge`."""
    limits = [
        f"{format_duration(format.max_age_s)} with --format {format.name}"
        for format in FORMATS.values()
        if format.max_age_s
    ]
    parser.add_argument("file", metavar="FILE", help="a report (kvmprobe --json) or bare evidence; - is standard input")
    parser.add_argument(
        "--max-age",
        metavar="DURATION",
        type=duration,
        help="refuse evidence that is older than DURATION (90m, 26h, 7d), or from the future "
        f"(default: {', '.join(limits)}, else no limit)",
    )
    add_report_arguments(parser)
    add_expect(parser)
    add_require(parser)
    add_exit_status(parser)


def run(options: argparse.Namespace) -> int:
    """Judge the evidence in a file. Returns the exit status; raises Problem."""
    from kvmprobe.report import write_report
    from kvmprobe.report.stored_report import load

    write_report.check_targets(options)
    requirements = requirements_of(options)
    evidence, stored = load(options.file)
    max_age = FORMATS[options.format].max_age_s if options.max_age is None else options.max_age
    if max_age is not None:
        write_report.check_age(evidence, max_age, options.file)
    return write_report.write_report(evidence, options, stored if requirements is None else requirements)
