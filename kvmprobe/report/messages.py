"""Progress, warnings and errors: lines on standard error."""

from __future__ import annotations

import sys

from kvmprobe.model.printable import clean


def say(message: str, hint: str | None = None) -> None:
    """A line about the progress or a problem, to standard error, whether anybody listens or not."""
    try:
        if sys.stderr is not None:
            print("\n".join(map(clean, message.splitlines())), file=sys.stderr, flush=True)
            if hint:
                print(f"  {clean(hint)}", file=sys.stderr, flush=True)
    except OSError:
        pass
