"""kvmprobe run as people run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]


DEADLINE_S = 120  # generous: only against hanging


def kvmprobe(*arguments: str | Path, deadline: float = DEADLINE_S, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs kvmprobe as a process of its own; never lets a traceback pass."""
    done = subprocess.run(
        [sys.executable, "-m", "kvmprobe", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=deadline,
        check=False,
        **{"cwd": PROJECT, **options},
    )
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    assert "internal error" not in done.stderr, done.stderr
    return done
