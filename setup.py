"""Adds to the wheel what is made of the source: the manual page and the completions. All else is in pyproject.toml."""

import subprocess
import sys
from pathlib import Path

from setuptools import setup

MADE = Path("build", "manual", "share")

command = [sys.executable, "scripts/manual.py", MADE]
done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
files = [Path(line) for line in done.stdout.splitlines()]
setup(data_files=[(str(file.parent.relative_to(MADE.parent)), [str(file)]) for file in files])
