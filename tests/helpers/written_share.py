"""share/ as scripts/manual writes it: the manual page and the completions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT


def write(folder: Path, project: Path = PROJECT, **environment: str) -> Path:
    """Writes it into `folder`, with the generators of `project`. Returns `folder`."""
    subprocess.run(
        [sys.executable, project / "scripts/generators", folder],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd="/",
        env={"PATH": os.defpath, **environment},
        timeout=DEADLINE_S,
    )
    return folder
