"""From evidence to written reports: judges it, and writes each format that was asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence

from kvmprobe import TYPE_CHECKING, judge
from kvmprobe.formats import FORMATS
from kvmprobe.model import times
from kvmprobe.model.errors import EXIT_CONFIRMED, EXIT_FAILED, DataProblem, Problem, UsageProblem
from kvmprobe.model.verdict_status import EXIT_STATUS
from kvmprobe.report import messages, output, terminal

if TYPE_CHECKING:
    import argparse

    from kvmprobe.formats import Format
    from kvmprobe.judge.requirements.requirement import Requirement
    from kvmprobe.model.evidence import Evidence
    from kvmprobe.model.judgement import Report

    Target = tuple[Format, str | None]  # the file, None: standard output


def check_targets(options: argparse.Namespace) -> None:
    """Raise UsageProblem where a file of --output or --also can never be written, or two of them are the same file.

    Called before any work is done.
    """
    if FORMATS[options.format].for_agents and (options.expect or options.exit_status == "bisect"):
        raise UsageProblem(
            f"--format {options.format} has an exit status of its own, which --expect and --exit-status bisect replace",
            "Omit one of them.",
        )
    if options.output is None and not options.also:
        return
    from kvmprobe.report.targets import check_target, is_special, real_target

    if options.output is not None:
        check_target(options.output)
    taken = {real_target(options.output)}
    for chosen, path in map(_also, options.also):
        option = f"--also {chosen.name}:"
        check_target(path, option)
        target = real_target(path)
        if target in taken and (target is None or not is_special(target)):
            raise UsageProblem(f"{option}{path}: another format is written there", "Name another file.")
        taken.add(target)


def check_age(evidence: Evidence, max_age: int, name: str) -> None:
    """Raise Problem where the evidence, from the file `name`, is older than `max_age` seconds or from the future."""
    taken_at = evidence["taken_at"]
    taken = times.parse_time(taken_at)
    if taken is None:
        raise DataProblem(f"{name}: taken_at is not a time: {taken_at[:60]!r}", "Give a report as kvmprobe writes it.")
    age = int(time.time()) - taken
    if -times.SKEW_S <= age <= max_age:
        return
    verdict = judge.judge(evidence)["verdict"]
    length, limit = times.format_duration(abs(age)), times.format_duration(max_age)
    when = f"{length} old, the limit is {limit}" if age > 0 else f"{length} in the future"
    hint = "Check that the timer still runs kvmprobe." if age > 0 else "Set the clocks, and probe again."
    was = f"its verdict was {verdict['status']} {verdict['reason']} at {taken_at}"
    raise Problem(f"{name}: the evidence is {when}; {was}", hint)


def write_host_report(evidence: Evidence, options: argparse.Namespace, requirements: Sequence[Requirement] = ()) -> int:
    """As write_report(), for evidence just taken on this host: warns about what was left changed or unavailable."""
    if evidence["uevents"]["error"] and not options.quiet:
        messages.warn(f"KVM uevents unavailable: {evidence['uevents']['error']}")
    for load in evidence["loads"]:
        if load["unloaded"] is False:
            messages.warn(f"the module {load['module']} stays loaded: it is in use, or could not be unloaded")
    return write_report(evidence, options, requirements)


def write_report(evidence: Evidence, options: argparse.Namespace, requirements: Sequence[Requirement] = ()) -> int:
    """Judge the evidence by the rules and `requirements`, write the report as `options` ask (add_report_arguments()),
    and return the exit status.

    --output comes first, then each file of --also. A file that cannot be written does not stop the others. It raises
    Problem in the end; where the verdict is "failed" it is only reported, and that verdict's exit status stays.
    A format for agents comes last instead: what an agent reads as the result must know of all problems.
    """
    report = judge.judge(evidence, requirements)
    main = FORMATS[options.format]
    main_target: list[Target] = [(main, options.output)]
    others = [_also(argument) for argument in options.also]
    has_failed = report["verdict"]["status"] == "failed"
    problems = _write_all(report, others if main.for_agents else [*main_target, *others], options)
    if main.for_agents and (has_failed or not problems):
        problems += _write_all(report, main_target, options)
    if problems and not has_failed:
        raise problems[0] if len(problems) == 1 else Problem("; ".join(problem.message for problem in problems))
    for problem in problems:
        messages.say(f"kvmprobe: {problem.message}", problem.hint)
    return status_by_reason(report, options.expect) if options.expect else main.exit_status(report)


def status_by_reason(report: Report, expected: str) -> int:
    """The exit status where one reason is expected: 0 for it, 1 for another.

    That of the verdict where it does not decide: inconclusive, or not applicable.
    """
    verdict = report["verdict"]
    if verdict["reason"] == expected:
        return EXIT_CONFIRMED
    undecided = verdict["status"] in ("inconclusive", "not applicable")
    return EXIT_STATUS[verdict["status"]] if undecided else EXIT_FAILED


def _write_all(report: Report, targets: Sequence[Target], options: argparse.Namespace) -> list[Problem]:
    """Write the report to each of `targets`; return the problems."""
    problems = []
    verbose = -1 if options.quiet else options.verbose
    for chosen, path in targets:
        colour, width = (terminal.wants_colour(), terminal.width()) if path is None else (False, None)
        try:
            text = chosen.render(report, verbose, colour, width)
            output.write(text, path, chosen.file_mode)
            if path is not None and path == options.output:
                output.report_written(options)
        except Problem as problem:
            problems.append(problem)
    return problems


def _also(argument: str) -> tuple[Format, str]:
    """Return the format and the file of an --also. Raises UsageProblem."""
    name, colon, path = argument.partition(":")
    if not colon or name not in FORMATS:
        what = "there is no such format" if colon else "no FILE"
        raise UsageProblem(f"--also {argument}: {what}", f"Give FORMAT:FILE. The formats are {', '.join(FORMATS)}.")
    return FORMATS[name], path
