"""`kvmprobe explain`: what a reason means, what the kernel does there, what to do."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.errors import UsageProblem
from kvmprobe.model.reasons import REASONS, RENAMED_REASONS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

DESCRIPTION = """\
Explains the reason of a verdict: when it is given, what the kernel does then,
what the kernel log shows, what to do. Without REASON it lists all reasons.
"""
EPILOG = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kvmprobe explain`."""
    parser.add_argument(
        "reasons", metavar="REASON", nargs="*", help="explain this reason; a part of its name is enough"
    )


def run(options: argparse.Namespace) -> int:
    """Explain reasons, or list them all. Returns the exit status; raises UsageProblem for a name that matches none."""
    from kvmprobe.formats import explanation
    from kvmprobe.report import output

    names = [name for part in options.reasons for name in matching(RENAMED_REASONS.get(part, part), REASONS)]
    texts = [explanation.render(name) for name in dict.fromkeys(names) or (None,)]
    output.write("\n".join(texts), None)
    return 0


def matching(part: str, names: Iterable[str]) -> list[str]:
    """Return `part` alone where it is one of `names`, else all that contain it. UsageProblem where none does."""
    names = list(names)
    if part in names:
        return [part]
    found = [name for name in names if part and part.lower() in name]
    if found:
        return found
    import difflib

    close = difflib.get_close_matches(part.lower(), names, 1)
    hint = f"Did you mean {close[0]}?" if close else "'kvmprobe explain' lists all reasons."
    raise UsageProblem(f"no reason is called {part!r}, and none contains it", hint)
