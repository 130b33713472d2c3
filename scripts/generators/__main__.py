"""Writes the manual page and the completions for bash, zsh and fish into a folder, as a prefix's share/ has them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# Not this folder: its modules are scripts.generators.…, and kvmprobe is that of this checkout.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from scripts.generators import share_files  # noqa: E402


def main() -> str | None:
    """Writes the files. Returns an error message, or None."""
    parser = argparse.ArgumentParser(prog="scripts/manual", description=__doc__)
    parser.add_argument("folder", metavar="DIR", type=Path, help="where to write them; created if missing")
    folder = parser.parse_args().folder
    try:
        for path in share_files.write(folder):
            print(path)
    except OSError as error:
        return f"manual: {error.filename}: {error.strerror}"
    return None


if __name__ == "__main__":
    sys.exit(main())
