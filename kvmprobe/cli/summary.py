"""The command `kvmprobe summary`."""

from __future__ import annotations

import argparse
import json
import os
import re

from kvmprobe.cli import report_arguments
from kvmprobe.model.errors import DataProblem
from kvmprobe.model.reasons import EXIT_STATUS, REASONS
from kvmprobe.report import messages, output
from kvmprobe.summary import summary_text, workers
from kvmprobe.summary.fleet import Fleet
from kvmprobe.summary.fleet_summary import Summary
from kvmprobe.summary.report_files import Inputs
from kvmprobe.summary.report_records import Reader

_DESCRIPTION = """\
Counts the hosts of many stored reports by verdict, reason, kernel, CPU model
and microcode, and names the odd ones: those unlike most hosts with the same CPU
model and kernel. Touches no machine, needs no rights but to read the files.

A REPORT is a file, a folder (all *.json, *.jsonl, *.ndjson below it, and the
same with .gz; a lab's summary.json is left alone) or - for standard input. A
file may have many reports, one after the other or one a line. Of each host name
the latest report counts.
"""

_EPILOG = """\
Verdicts are this version's: a report by another version is judged anew, which
takes longer; of its own reports it takes the verdict that is stored (--judge:
judges all).

exit status:
  0   all hosts are confirmed, or confirmed and not applicable
  1   some failed
  3   none failed, some inconclusive, too old (--max-age) or missing (--expect)
  4   all are not applicable
  64  wrong arguments
  65  some file could not be read (1 where a host failed, too)
"""

_SAID = 10  # files that could not be read, without -v


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `kvmprobe summary`."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("reports", metavar="REPORT", nargs="+", help="a file or folder of reports; - is standard input")
    parser.add_argument("--all", action="store_true", help="count every report, not only a host's latest")
    parser.add_argument("--judge", action="store_true", help="judge all reports anew, whatever they say themselves")
    parser.add_argument(
        "--only",
        metavar="VERDICT|REASON",
        action="append",
        default=[],
        type=_verdict_or_reason,
        help="list the hosts with this verdict or reason",
    )
    parser.add_argument(
        "--max-age",
        metavar="DURATION",
        type=report_arguments.duration,
        help="name the hosts whose report is older (90m, 26h, 7d), or of the future",
    )
    parser.add_argument("--expect", metavar="FILE", help="name the hosts in FILE (one a line) that have no report")
    parser.add_argument("--jobs", metavar="N", type=_jobs, help="read in N processes (one for each CPU)")
    report_arguments.add_arguments(
        parser,
        "full lists; json: every host",
        "the last line alone; with --only: the names",
        ("text", "json", "html"),
    )
    parser.set_defaults(run=main)


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


def main(options: argparse.Namespace) -> int:
    """Reads, summarizes, writes. Returns the exit status in _EPILOG; raises Problem."""
    if options.output is not None:
        output.check_target(options.output)
    expected = _names(options.expect) if options.expect is not None else []
    summary = read(options, expected)
    fleet = summary.fleet
    if options.format != "text" or options.output or options.quiet or options.only or not fleet.reports:
        _say_bad(fleet, options.verbose > 0)  # else the result has it
    if not fleet.reports:
        raise DataProblem("there is no report to summarize", "Give files or folders of 'kvmprobe --json' reports.")
    output.write(_render(summary, options), options.output)
    return summary.exit_status()


def read(options: argparse.Namespace, expected: list[str]) -> Summary:
    """The summary of what `options.reports` names."""
    inputs = Inputs(options.reports)
    fleet = Fleet(options.all)
    reader = Reader(options.judge, options.format == "html")
    for found, bad, judged in workers.share(inputs.tasks(), reader, options.jobs or len(os.sched_getaffinity(0))):
        for file, line, digest in found:
            fleet.add(file, line, digest)
        fleet.add_bad(bad)
        fleet.judged += judged
    fleet.add_bad(inputs.bad)
    return Summary(fleet, options.only, options.max_age, expected, inputs.others)


def _say_bad(fleet: Fleet, every: bool) -> None:
    bad = fleet.bad()[: None if every else _SAID]
    for file, line, why in bad:
        messages.say(f"kvmprobe: {summary_text.where(file, line)}: {why}")
    if rest := fleet.bad_count - len(bad):
        messages.say(f"kvmprobe: {rest:,} more could not be read")


def _render(summary: Summary, options: argparse.Namespace) -> str:
    if options.format == "json":
        return json.dumps(summary.data(options.verbose > 0), indent=1) + "\n"
    if options.format == "html":
        from kvmprobe.summary import fleet_page

        return fleet_page.render(summary)
    colour = options.output is None and output.wants_colour()
    return summary_text.render(summary, -1 if options.quiet else options.verbose, colour)


def _names(path: str) -> list[str]:
    """Host names, one a line; what follows # is a comment."""
    try:
        with open(path, encoding="utf-8") as file:
            names = [line.partition("#")[0].strip() for line in file]
    except (OSError, ValueError) as error:
        raise DataProblem(f"--expect {path}: {getattr(error, 'strerror', None) or 'not text'}") from error
    if not any(names):
        raise DataProblem(f"--expect {path}: there is no name in it", "Write one host name a line.")
    return [name for name in names if name]
