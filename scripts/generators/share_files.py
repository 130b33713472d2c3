"""What kvmprobe installs below a prefix's share/: the manual page and the completions."""

from __future__ import annotations

import os
import time
from pathlib import Path

from scripts.generators import completions, manual_page


def write(folder: Path) -> list[Path]:
    """Writes the files into `folder` and returns their paths. All users can read them. Raises OSError."""
    texts = {f"man/man{manual_page.SECTION}/kvmprobe.{manual_page.SECTION}": manual_page.render(_date())}
    texts.update((name, completions.render(shell)) for shell, name in completions.FILES.items())
    mask = os.umask(0o022)
    try:
        for name, text in texts.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    finally:
        os.umask(mask)
    return [folder / name for name in texts]


def _date() -> str:
    """The day of SOURCE_DATE_EPOCH, as YYYY-MM-DD. Empty without it: then only the source decides the content."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    return time.strftime("%Y-%m-%d", time.gmtime(int(seconds))) if seconds else ""
