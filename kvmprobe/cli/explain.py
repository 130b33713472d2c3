"""`kvmprobe explain`: what a reason or a cause means, what the kernel does there, what to do."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.errors import UsageProblem
from kvmprobe.model.reasons import REASONS, RENAMED_REASONS

if TYPE_CHECKING:
    import argparse

DESCRIPTION = """\
Explains a reason (what was found): when a verdict has it, what the kernel does
in that case, what its log shows, and what to do. Explains a cause (why it was
found): when a verdict has it, and what to do. Without a name it lists all.
"""
EPILOG = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kvmprobe explain`."""
    parser.add_argument(
        "names", metavar="REASON|CAUSE", nargs="*", help="explain this one; a part of its name is enough"
    )


def run(options: argparse.Namespace) -> int:
    """Explain reasons and causes, or list all. Returns the exit status; UsageProblem for a name that matches none."""
    from kvmprobe.formats import explanation
    from kvmprobe.report import output

    names = [name for part in options.names for name in matching(RENAMED_REASONS.get(part, part))]
    texts = [explanation.render(name) for name in dict.fromkeys(names) or (None,)]
    output.write("\n".join(texts), None)
    return 0


def matching(part: str) -> list[str]:
    """Return `part` alone where it is a reason or a cause, else all that contain it. UsageProblem where none does."""
    if part in REASONS:
        return [part]
    from kvmprobe.judge.causes import CAUSES  # many modules
    from kvmprobe.judge.sev import SEV_CAUSES

    names = [*REASONS, *CAUSES, *SEV_CAUSES]
    if part in names:
        return [part]
    found = [name for name in names if part and part.lower() in name]
    if found:
        return found
    import difflib

    close = difflib.get_close_matches(part.lower(), names, 1)
    hint = f"Did you mean {close[0]}?" if close else "'kvmprobe explain' lists them all."
    raise UsageProblem(f"no reason or cause is called {part!r}, and none contains it", hint)
