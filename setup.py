"""Adds the manual page and the completions to the wheel: they are generated. All else is in pyproject.toml."""

import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).resolve().parent))

from scripts.generators import share_files

MADE = Path("build", "generated", "share")

files = share_files.write(MADE)
setup(data_files=[(str(file.parent.relative_to(MADE.parent)), [str(file)]) for file in files])
