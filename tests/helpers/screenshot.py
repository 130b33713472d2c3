"""Makes the README's picture: the page of a fleet of recorded reports, in a real browser (scripts/screenshot)."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.helpers.browser import Browser
from tests.helpers.fleet_reports import lines, readme_fleet
from tests.helpers.run_kvmprobe import kvmprobe

WIDTH, HEIGHT = 1360, 1180
OPENED = "node-07"


def take(browser: Browser, folder: Path) -> bytes:
    """The picture as PNG, of the hosts around one that is open; made in `folder`."""
    target = folder / "summary.html"
    kvmprobe("summary", "--format", "html", "-o", target, "-", input=lines(readme_fleet()))
    browser.open(f"{target.as_uri()}#q=node-0&open={OPENED}", WIDTH, HEIGHT)
    browser.run("document.querySelector('.tools').scrollIntoView()")
    return browser.picture()


def main(path: str) -> None:
    """Writes it to `path`."""
    with tempfile.TemporaryDirectory() as temp:
        browser = Browser(Path(temp))
        try:
            Path(path).write_bytes(take(browser, Path(temp)))
        finally:
            browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
