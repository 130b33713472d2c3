"""`kvmprobe summary REPORT…`: the hosts of many reports, counted, with the outliers."""

from __future__ import annotations

import argparse
import json
import os
import re

from kvmprobe import TYPE_CHECKING
from kvmprobe.cli.report_arguments import add_arguments as add_result_arguments
from kvmprobe.cli.report_arguments import add_require, duration, requirements_of
from kvmprobe.model.errors import DataProblem
from kvmprobe.model.reasons import REASONS
from kvmprobe.model.verdict_status import EXIT_STATUS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvmprobe.judge.requirements.requirement import Requirement
    from kvmprobe.summary.fleet import Fleet
    from kvmprobe.summary.fleet_summary import Summary

DESCRIPTION = """\
Lists the failed hosts of many reports, then the outliers: hosts that differ
from most hosts with the same CPU model and kernel. Counts all hosts by verdict,
reason, kernel, CPU model and microcode. Reads only the reports, nothing of this
host.

REPORT is a file, a folder or - (standard input). In a folder it reads *.json,
*.jsonl, *.ndjson, and these with .gz, at any depth, except the summary.json of
'kvmprobe lab matrix'. A file may have many reports, one after the other or one
per line. Only the newest report per host is counted.
"""
EPILOG = """\
All verdicts are those of this version: reports by other versions are judged
again, which takes longer. The verdicts in reports by this version are used as
they are, unless --judge or --require is given.

exit status:
  0   all hosts are confirmed or usable; some may be not applicable
  1   a host failed
  3   no host failed; some are inconclusive, or too old (--max-age), or missing
      (--expect)
  4   all hosts are not applicable
  64  wrong arguments
  65  a file could not be read (1 where a host failed)
"""

_REPORTED = 10  # files that could not be read, without -v


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kvmprobe summary`."""
    parser.add_argument("reports", metavar="REPORT", nargs="+", help="a file or folder of reports; - is standard input")
    parser.add_argument("--all", action="store_true", help="count all reports of a host, not only the newest")
    parser.add_argument("--judge", action="store_true", help="judge all reports again, also those of this version")
    parser.add_argument(
        "--only",
        metavar="VERDICT|REASON",
        action="append",
        default=[],
        type=_verdict_or_reason,
        help="list the hosts with this verdict or reason (repeatable)",
    )
    parser.add_argument(
        "--max-age",
        metavar="DURATION",
        type=duration,
        help="list the hosts whose report is older, or from the future: 90m, 26h, 7d",
    )
    parser.add_argument("--expect", metavar="FILE", help="list the hosts in FILE, one per line, that have no report")
    add_require(parser, "ask all hosts, and list those that meet it")
    parser.add_argument("--jobs", metavar="N", type=_jobs, help="read with N processes (default: one per CPU)")
    add_result_arguments(
        parser,
        "show full lists, with --json every host",
        "show the last line only, with --only the names",
        ("text", "json", "html"),
    )


def _verdict_or_reason(text: str) -> str:
    word = text.replace("-", " ") if text.replace("-", " ") in EXIT_STATUS else text
    if word not in EXIT_STATUS and word not in REASONS:
        verdicts = ", ".join(status.replace(" ", "-") for status in EXIT_STATUS)
        raise argparse.ArgumentTypeError(f"{text}: neither {verdicts} nor a reason ('kvmprobe explain' lists these)")
    return word


def _jobs(text: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", text) or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Read, summarize, write. Returns the exit status in EPILOG; raises Problem."""
    from kvmprobe.report import output, targets

    if options.output is not None:
        targets.check_target(options.output)
    expected = _names(options.expect) if options.expect is not None else []
    summary = _read(options, expected, requirements_of(options))
    fleet = summary.fleet
    if options.format != "text" or options.output or options.quiet or options.only or not fleet.reports:
        _report_bad_files(fleet, options.verbose > 0)  # otherwise the result lists them
    if not fleet.reports:
        raise DataProblem("there is no report to summarize", "Give files or folders of 'kvmprobe --json' reports.")
    output.write_result(_render(summary, options), options)
    return summary.exit_status()


def _read(options: argparse.Namespace, expected: list[str], requirements: Sequence[Requirement] | None) -> Summary:
    """Return the summary of the reports in `options.reports`, of whose hosts `requirements` are asked."""
    from kvmprobe.summary.fleet import Fleet
    from kvmprobe.summary.fleet_summary import Summary
    from kvmprobe.summary.parallel import run_parallel
    from kvmprobe.summary.report_files import Inputs
    from kvmprobe.summary.report_records import Reader

    inputs = Inputs(options.reports)
    fleet = Fleet(options.all)
    reader = Reader(options.judge, options.format == "html", requirements)
    for found, bad, judged in run_parallel(inputs.tasks(), reader, options.jobs or len(os.sched_getaffinity(0))):
        for file, line, values in found:
            fleet.add(file, line, values)
        fleet.add_bad(bad)
        fleet.judged += judged
    fleet.add_bad(inputs.bad)
    return Summary(fleet, options.only, options.max_age, expected, inputs.ignored)


def _report_bad_files(fleet: Fleet, every: bool) -> None:
    from kvmprobe.report.messages import say
    from kvmprobe.summary import summary_text

    bad = fleet.bad()[: None if every else _REPORTED]
    for file, line, why in bad:
        say(f"kvmprobe: {summary_text.where(file, line)}: {why}")
    if rest := fleet.bad_count - len(bad):
        say(f"kvmprobe: {rest:,} more could not be read", None if every else "-v lists them all.")


def _render(summary: Summary, options: argparse.Namespace) -> str:
    from kvmprobe.report import terminal

    if options.format == "json":
        return json.dumps(summary.data(options.verbose > 0), indent=1) + "\n"
    if options.format == "html":
        from kvmprobe.summary import fleet_page

        return fleet_page.render(summary)
    from kvmprobe.summary import summary_text

    verbose = -1 if options.quiet else options.verbose
    if options.output is not None:
        return summary_text.render(summary, verbose)
    return summary_text.render(summary, verbose, terminal.wants_colour(), terminal.width())


def _names(path: str) -> list[str]:
    """Return the host names in a file, one per line. Text after # is a comment. Raises DataProblem."""
    from kvmprobe.report.reading import LIMIT, open_named, read_all

    try:
        text = read_all(open_named(path), LIMIT).decode()
        names = [line.partition("#")[0].strip() for line in text.splitlines()]
    except (OSError, ValueError) as error:
        why = "not text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None) or error
        what = f"--expect {path}: {why}"
        raise DataProblem(what, "Give a file with one host name per line.") from error
    if not any(names):
        raise DataProblem(f"--expect {path}: no host name in it", "Write one host name per line.")
    return [name for name in names if name]
