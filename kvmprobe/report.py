"""From evidence to a report that is written as it was asked for: the end of every command that takes evidence."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING, formats, judge, output
from kvmprobe.errors import Problem, UsageProblem
from kvmprobe.reasons import EXIT_STATUS

if TYPE_CHECKING:
    import argparse

    from kvmprobe.shape import Evidence

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


def write(evidence: Evidence, options: argparse.Namespace) -> int:
    """Judges, writes the report as `options` (of output.add_report_arguments) say, and gives the verdict's exit status.

    Of several files each is written whatever becomes of the others. Raises Problem when one could not be.
    """
    report = judge.judge(evidence)
    problems = []
    for name, path in ((options.format, options.output), *map(_also, options.also)):
        colour = path is None and output.wants_colour()
        text = formats.render(report, name, -1 if options.quiet else options.verbose, colour)
        try:
            output.write(text, path, _DAEMONS_MODE if name in formats.READ_BY_DAEMONS else None)
        except Problem as problem:
            problems.append(problem)
    for other in problems[1:]:
        output.say(f"kvmprobe: {other.message}", other.hint)
    if problems:
        raise problems[0]
    return EXIT_STATUS[report["verdict"]["status"]]


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
        output.say(f"kvmprobe: one witness less: {evidence['uevents']['error']}")
    for load in evidence["loads"]:
        if load["unloaded"] is False:
            output.say(f"kvmprobe: the module {load['module']} is in use and stays loaded")
    return write(evidence, options)
