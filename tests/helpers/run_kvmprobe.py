"""kvmprobe run as people run it: as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]

DEADLINE_S = 120  # Generous: it only keeps a test from waiting for ever.


def kvmprobe(
    *arguments: str | Path, deadline: float = DEADLINE_S, before: Sequence[str] = (), **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run kvmprobe to its end. Fails where it shows a traceback or an internal error.

    `before`: a command that runs kvmprobe's, such as strace with its arguments.
    """
    done = subprocess.run(
        [*before, sys.executable, "-m", "kvmprobe", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=deadline,
        check=False,
        **{"cwd": PROJECT, **options},
    )
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    assert "internal error" not in done.stderr, done.stderr
    return done
