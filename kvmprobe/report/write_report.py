"""From evidence to a report that is written as it was asked for: the end of every command that takes evidence."""

from __future__ import annotations

import time
from collections.abc import Sequence

from kvmprobe import TYPE_CHECKING, formats, judge
from kvmprobe.model import times
from kvmprobe.model.errors import DataProblem, Problem, UsageProblem
from kvmprobe.report import messages, output

if TYPE_CHECKING:
    import argparse

    from kvmprobe.model.evidence import Evidence
    from kvmprobe.model.judgement import Report

_DAEMONS_MODE = 0o644  # root writes, another user reads, whatever root's umask is


def check_targets(options: argparse.Namespace) -> None:
    """Raises UsageProblem, before any work is done, where --output or a file of --also can never be written, or two of
    them are the same file."""
    if options.output is not None:
        output.check_target(options.output)
    taken = {output.place(options.output)}
    for name, path in map(_also, options.also):
        output.check_target(path, f"--also {name}:")
        place = output.place(path)
        if place in taken and (place is None or not output.is_special(place)):
            raise UsageProblem(f"--also {name}:{path}: something else is written there already", "Name another file.")
        taken.add(place)


def check_age(evidence: Evidence, max_age: int, name: str) -> None:
    """Raises Problem where the evidence, in the file `name`, was not taken in the last `max_age` seconds."""
    taken_at = evidence["taken_at"]
    taken = times.parse_time(taken_at)
    if taken is None:
        raise DataProblem(f"{name}: taken_at is not a time: {taken_at[:60]!r}")
    age = int(time.time()) - taken
    if -times.SKEW_S <= age <= max_age:
        return
    verdict = judge.judge(evidence)["verdict"]
    shown, allowed = times.format_duration(abs(age)), times.format_duration(max_age)
    when = f"{shown} old, more than the {allowed} allowed" if age > 0 else f"{shown} in the future"
    hint = "See whether the timer still runs kvmprobe." if age > 0 else "See to the clocks, and probe again."
    was = f"it was {verdict['status']} {verdict['reason']} at {taken_at}"
    raise Problem(f"{name}: the evidence is {when}; {was}", hint)


def write(evidence: Evidence, options: argparse.Namespace) -> int:
    """Judges, writes the report as `options` (of output.add_report_arguments) say, and gives the exit status.

    Of several files each is written, the main one first, whatever becomes of the others. Raises Problem when one could
    not be, unless the verdict is "failed": that stays the status, and the Problem is only said. With --format nagios it
    would be the result, so there the report comes last.
    """
    report = judge.judge(evidence)
    main, others = (options.format, options.output), [_also(argument) for argument in options.also]
    ends_with_main = options.format == "nagios"
    has_failed = report["verdict"]["status"] == "failed"
    problems = _write_all(report, others if ends_with_main else [main, *others], options)
    if ends_with_main and (has_failed or not problems):
        problems += _write_all(report, [main], options)
    if problems and not has_failed:
        raise problems[0] if len(problems) == 1 else Problem("; ".join(problem.message for problem in problems))
    for problem in problems:
        messages.say(f"kvmprobe: {problem.message}")
    return formats.exit_status(report, options.format)


def _write_all(report: Report, targets: Sequence[tuple[str, str | None]], options: argparse.Namespace) -> list[Problem]:
    """Writes each of `targets`, a format and a file; returns what could not be done."""
    problems = []
    for name, path in targets:
        colour = path is None and output.wants_colour()
        try:
            text = formats.render(report, name, -1 if options.quiet else options.verbose, colour)
            output.write(text, path, _DAEMONS_MODE if name in formats.READ_BY_DAEMONS else None)
        except Problem as problem:
            problems.append(problem)
    return problems


def _also(argument: str) -> tuple[str, str]:
    """The format and the file of an --also. Raises UsageProblem."""
    name, colon, path = argument.partition(":")
    if not colon or name not in formats.REPORT_FORMATS:
        hint = f"Give FORMAT:FILE; the formats are {', '.join(formats.REPORT_FORMATS)}."
        raise UsageProblem(f"--also {argument}: {'there is no such format' if colon else 'no FILE'}", hint)
    return name, path


def write_here(evidence: Evidence, options: argparse.Namespace) -> int:
    """The same for evidence of this host; says on the way what a report's reader would not look for."""
    if evidence["uevents"]["error"] and not options.quiet:
        messages.say(f"kvmprobe: one witness less: {evidence['uevents']['error']}")
    for load in evidence["loads"]:
        if load["unloaded"] is False:
            messages.say(f"kvmprobe: the module {load['module']} is in use and stays loaded")
    return write(evidence, options)
