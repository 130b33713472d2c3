"""Writes the manual page and the shells' completions into a folder, as they are laid out below a prefix's share/."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from manuals import bash, fish, model, page, zsh  # noqa: E402


def main() -> str | None:
    """Writes them; returns what is wrong, if anything is."""
    parser = argparse.ArgumentParser(prog="scripts/manual", description=__doc__)
    parser.add_argument("folder", metavar="DIR", type=Path, help="where they go; it is made if it is not there")
    folder = parser.parse_args().folder
    os.umask(0o022)  # they are for all users, whoever installs them
    top = model.read()
    try:
        for name, text in {
            f"man/man{page.SECTION}/kvmprobe.{page.SECTION}": page.render(top, _date()),
            "bash-completion/completions/kvmprobe": bash.render(top),
            "zsh/site-functions/_kvmprobe": zsh.render(top),
            "fish/vendor_completions.d/kvmprobe.fish": fish.render(top),
        }.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(path)
    except OSError as error:
        return f"manual: {error.filename}: {error.strerror}"
    return None


def _date() -> str:
    """The day that SOURCE_DATE_EPOCH says; else none, so that nothing but the content of the source counts."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    return time.strftime("%Y-%m-%d", time.gmtime(int(seconds))) if seconds else ""


if __name__ == "__main__":
    sys.exit(main())
