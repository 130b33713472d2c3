"""The documentation agrees with the program: reasons, reports, paths."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from kvmprobe.formats import text_watch
from kvmprobe.model.reasons import REASONS
from kvmprobe.model.verdict_status import EXIT_STATUS
from scripts.generators import reference
from tests.helpers.recorded_evidence import EVIDENCE
from tests.helpers.run_kvmprobe import PROJECT, kvmprobe

PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]
ALL = "\n".join(page.read_text() for page in PAGES)
# A path of this checkout, where it is written as code.
_PATH = re.compile(r"(?:(?<=`)|(?<=\s))((?:scripts|docs|tests|kvmprobe)/[\w./-]*[\w/])(?=[`\s,;:])")
# A path of the package, as docs/internals.md writes it.
_MODULE = re.compile(r"`((?:cli|lab|summary|compare|report|formats|judge|collect|host|model)/[a-z_./]*[a-z/])`")
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[\w-]+)?\)")


def test_there_is_a_table_of_all_reasons() -> None:
    rows = [
        f"| `{reason.name}` | {reason.status} ({EXIT_STATUS[reason.status]}) | {reason.when} |"
        for reason in REASONS.values()
    ]
    assert "\n".join(rows) in ALL


def test_the_readme_shows_a_real_report() -> None:
    utf8 = {**os.environ, "LC_ALL": "C.UTF-8"}
    shown = kvmprobe("judge", EVIDENCE / "matrix/bookworm/epyc.json", env=utf8).stdout
    assert shown.strip() in (PROJECT / "README.md").read_text()


def test_there_is_the_output_of_a_real_watch() -> None:
    report = json.loads((EVIDENCE / "watch/bookworm-qemu.json").read_text())
    _, *lines = text_watch.section(report["evidence"]["watch"])  # the first contains the whole command
    assert "\n".join(line.text for line in lines) in ALL


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_exists(page: Path) -> None:
    named = set(_PATH.findall(page.read_text()))
    assert {path for path in named if not (PROJECT / path).exists()} == set()


def test_every_module_of_the_internals_exists() -> None:
    named = _MODULE.findall((PROJECT / "docs/internals.md").read_text())
    assert "model/reasons.py" in named
    assert [path for path in named if not (PROJECT / "kvmprobe" / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    assert {target for target in _LINK.findall(page.read_text()) if not (page.parent / target).exists()} == set()


def test_the_reference_is_made_from_the_tables() -> None:
    """`python3 -m scripts.generators.reference` writes it anew."""
    assert reference.PAGE.read_text() == reference.text()
