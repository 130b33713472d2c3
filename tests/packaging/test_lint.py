"""The rules that scripts/lint enforces notice what they forbid. scripts/lint itself checks this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT

RULES = PROJECT / "scripts/source_rules.py"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the source, as a git checkout."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    shutil.copy(PROJECT / "pyproject.toml", copy)
    ignored = shutil.ignore_patterns("__pycache__", "evidence")
    for folder in ("kvmprobe", "scripts", "tests"):
        shutil.copytree(PROJECT / folder, copy / folder, ignore=ignored)
    subprocess.run(["git", "init", "-q", str(copy)], check=True)
    return copy


def run(checkout: Path, *command: str | Path) -> tuple[int, str]:
    """Exit status and output of a checker that runs in `checkout`."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        timeout=DEADLINE_S,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("package", ["judge", "formats", "compare", "summary"])
def test_what_touches_nothing_may_not_import_what_touches_the_machine(package: str, checkout: Path) -> None:
    lint_imports = (Path(sys.executable).with_name("lint-imports"), "--no-cache")
    assert run(checkout, *lint_imports)[0] == 0
    with (checkout / f"kvmprobe/{package}/__init__.py").open("a") as file:
        file.write("from kvmprobe.host import kvm\n")
    status, output = run(checkout, *lint_imports)
    assert status == 1
    assert f"kvmprobe.{package} -> kvmprobe.host.kvm" in output


def test_imports_go_down_only(checkout: Path) -> None:
    with (checkout / "kvmprobe/model/errors.py").open("a") as file:
        file.write("from kvmprobe.formats import nagios\n")
    status, output = run(checkout, Path(sys.executable).with_name("lint-imports"), "--no-cache")
    assert status == 1
    assert "kvmprobe.model.errors -> kvmprobe.formats.nagios" in output


@pytest.mark.parametrize(
    ("name", "text", "violation"),
    [
        ("kvmprobe/compare/msr.py", "", "kvmprobe/host/msr.py: has the same name as kvmprobe/compare/msr.py"),
        ("kvmprobe/model/new.py", "class Facts: ...\n", "the class Facts has the same name as one in"),
        ("kvmprobe/model/new.py", "\n" * 321, "kvmprobe/model/new.py: 321 lines, more than 320"),
        ("kvmprobe/model/new.py", "CREATE_VM = 0xAE01\n", "kvmprobe/model/new.py: a KVM request number outside of"),
        ("docs/new.md", "from ht" + "tps://example.com\n", "docs/new.md: contains the address of a registry or server"),
    ],
    ids=["file name", "class name", "size", "request number", "address"],
)
def test_each_rule_of_ours(name: str, text: str, violation: str, checkout: Path) -> None:
    _, before = run(checkout, sys.executable, RULES, checkout)
    (checkout / name).parent.mkdir(exist_ok=True)
    (checkout / name).write_text(text)
    status, output = run(checkout, sys.executable, RULES, checkout)
    assert status == 1
    assert violation in output
    assert len(output.splitlines()) == len(before.splitlines()) + 1


@pytest.mark.parametrize("library", ["pyudev", "ptrace"])
def test_one_module_alone_imports_a_library(library: str, checkout: Path) -> None:
    ruff = (sys.executable, "-m", "ruff", "check", "--no-cache", "kvmprobe")
    assert run(checkout, *ruff)[0] == 0
    (checkout / "kvmprobe/host/new.py").write_text(f'"""New."""\n\nimport {library}\n\n{library}.main()\n')
    status, output = run(checkout, *ruff)
    assert status == 1
    assert "TID251" in output
