"""`kvmprobe explain`: what a reason, cause, feature or requirement means, what the kernel does there, what to do."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.errors import UsageProblem
from kvmprobe.model.reasons import REASONS, RENAMED_REASONS

if TYPE_CHECKING:
    import argparse

DESCRIPTION = """\
Explains a reason (what was found): when a verdict has it, what the kernel does
in that case, what its log shows, and what to do. Explains a cause (why it was
found): when a verdict has it, and what to do. Explains a feature of SVM: what
it does, and what kvm_amd needs for it. Explains what --require can ask.
Without a name it lists all names.
"""
EPILOG = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kvmprobe explain`."""
    parser.add_argument(
        "names",
        metavar="REASON|CAUSE|FEATURE|REQUIREMENT",
        nargs="*",
        help="explain this one; a part of its name is enough",
    )


def run(options: argparse.Namespace) -> int:
    """Explain what the names match, or list all. Returns the exit status; UsageProblem for a name that matches none."""
    from kvmprobe.formats import explanation
    from kvmprobe.report import output

    names = [name for part in options.names for name in matching(RENAMED_REASONS.get(part, part))]
    texts = [explanation.render(name) for name in dict.fromkeys(names) or (None,)]
    output.write("\n".join(texts), None)
    return 0


def matching(part: str) -> list[str]:
    """Return `part` alone where it is a name, else all names that contain it. UsageProblem where none does."""
    if part in REASONS:
        return [part]
    from kvmprobe.judge.causes import CAUSES  # many modules
    from kvmprobe.judge.features.feature_table import FEATURES
    from kvmprobe.judge.requirements.requirement_table import QUANTITIES, REQUIREMENTS
    from kvmprobe.judge.sev import SEV_CAUSES

    names = list(dict.fromkeys((*REASONS, *CAUSES, *FEATURES, *SEV_CAUSES, *REQUIREMENTS, *QUANTITIES)))
    if part in names:
        return [part]
    found = [name for name in names if part and part.lower() in name]
    if found:
        return found
    import difflib

    close = difflib.get_close_matches(part.lower(), names, 1)
    hint = f"Did you mean {close[0]}?" if close else "'kvmprobe explain' lists them all."
    raise UsageProblem(f"no reason, cause, feature or requirement is called {part!r}, and none contains it", hint)
