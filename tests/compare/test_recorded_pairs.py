"""Comparisons of recorded reports, word for word as in compared.txt.

After an intended change, write the file with `python -m tests.compare.test_recorded_pairs`, and read its diff.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers.compared_reports import MATRIX
from tests.helpers.recorded_evidence import EVIDENCE
from tests.helpers.run_kvmprobe import PROJECT, kvmprobe

FILE = PROJECT / "tests/compare/compared.txt"


def compared(pair: str) -> tuple[int, str]:
    """The exit status, and the lines of the differences. `pair`: the names of two recorded reports."""
    old, new = (EVIDENCE / f"{name}.json" for name in pair.split())
    done = kvmprobe("compare", old, new)
    assert done.stderr == ""
    return done.returncode, "".join(f"{line}\n" for line in done.stdout.splitlines() if line.startswith("["))


def read_pairs() -> dict[str, tuple[int, str]]:
    """The content of the file: by pair, what `compared` gives."""
    pairs = {}
    for part in FILE.read_text().split("\n\n")[1:]:  # the first part is about the file
        head, _, lines = part.partition("\n")
        pair, _, status = head.rpartition(" ")
        pairs[pair] = int(status), f"{lines.rstrip()}\n"
    return pairs


def write_pairs() -> None:
    """Writes the file, with its pairs and what they give now."""
    about = FILE.read_text().split("\n\n")[0]
    parts = [f"{pair} {status}\n{lines}" for pair in read_pairs() for status, lines in [compared(pair)]]
    FILE.write_text("\n".join([f"{about}\n", *parts]))


@pytest.mark.parametrize("pair", read_pairs())
def test_recorded_pairs(pair: str) -> None:
    assert compared(pair) == read_pairs()[pair]


def test_the_documentation_shows_a_real_comparison(tmp_path: Path) -> None:
    shutil.copy(MATRIX / "bookworm/epyc.json", tmp_path / "last-good.json")
    shutil.copy(MATRIX / "bookworm/held-first.json", tmp_path / "now.json")
    environment = {"PYTHONPATH": str(PROJECT)}
    done = kvmprobe("compare", "last-good.json", "now.json", cwd=tmp_path, env=environment)
    pages = [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")]
    assert any(f"```\n{done.stdout}```\n" in page.read_text() for page in pages), done.stdout


if __name__ == "__main__":
    write_pairs()
