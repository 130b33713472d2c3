"""The source holds to its rules: ruff, mypy (strict), one direction of imports, documentation that agrees."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys

import pytest

from kvmprobe.formats import text, text_watch
from kvmprobe.judge import judge
from kvmprobe.model.reasons import EXIT_STATUS, REASONS
from tests.helpers.recorded_evidence import EVIDENCE
from tests.helpers.run_kvmprobe import PROJECT

SOURCES = sorted((PROJECT / "kvmprobe").rglob("*.py"))


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)],
    ids=["ruff check", "ruff format", "mypy"],
)
def test_linters(command: tuple[str, ...]) -> None:
    if importlib.util.find_spec(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed (pip install kvmprobe[test])")
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, cwd=PROJECT, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("library", "room"), [("pyudev", "udev.py"), ("ptrace", "ptrace_calls.py")])
def test_a_library_has_one_room(library: str, room: str) -> None:
    imports = re.compile(rf"^\s*(import|from) {library}\b", re.MULTILINE)
    assert {path.name for path in SOURCES if imports.search(path.read_text())} == {room}


def test_no_request_number_outside_kvm_py() -> None:
    users = {path.name for path in SOURCES if "0xAE" in path.read_text() or "libc.ioctl(" in path.read_text()}
    assert users == {"kvm.py"}


def test_files_are_small() -> None:
    assert {path.name: lines for path in SOURCES if (lines := len(path.read_text().splitlines())) > 320} == {}


def test_the_readme_has_the_table_of_reasons() -> None:
    readme = (PROJECT / "README.md").read_text()
    rows = [
        f"| `{reason.name}` | {reason.status} ({EXIT_STATUS[reason.status]}) | {reason.when} |"
        for reason in REASONS.values()
    ]
    assert "\n".join(rows) in readme


def test_the_readme_shows_a_real_report() -> None:
    report = json.loads((EVIDENCE / "matrix/bookworm/epyc.json").read_text())
    assert text.render(judge(report["evidence"])).strip() in (PROJECT / "README.md").read_text()


def test_the_readme_shows_a_real_watch() -> None:
    report = json.loads((EVIDENCE / "watch/bookworm-qemu.json").read_text())
    _, *lines = text_watch.section(report["evidence"]["watch"])  # the first has the whole command
    assert "\n".join(line.text for line in lines) in (PROJECT / "README.md").read_text()


def test_no_address_of_a_registry() -> None:
    done = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=PROJECT, check=False)
    names = [name for name in done.stdout.split() if name != "LICENSE" and not name.endswith(".png")]
    identifiers = r"(?!json-schema\.org|www\.w3\.org/2001/XMLSchema|mirror/)"
    pattern = re.compile(r"(deb|pypi|registry)[a-z.-]*\.(org|com)|https?://" + identifiers)
    assert [name for name in names if pattern.search((PROJECT / name).read_text())] == []
