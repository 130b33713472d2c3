"""The archives for a guest: kvmprobe itself, and the command."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kvmprobe import __version__
from kvmprobe.lab import guest_program, payload
from kvmprobe.model.errors import Problem


def test_kvmprobe_runs_from_the_archive(tmp_path: Path) -> None:
    python = guest_program.python(Path("/"))
    made = guest_program.archive(python, payload.LAB, tmp_path / "cache", print)
    assert guest_program.archive(python, payload.LAB, tmp_path / "cache", print) == made
    if not shutil.which("cpio"):
        pytest.skip("cpio is not installed")
    subprocess.run(["cpio", "-i", "-d", "--quiet"], input=made, check=True, cwd=tmp_path)
    folder = tmp_path / "lab"
    assert not (folder / "kvmprobe/lab").exists()
    # Python uses only the compiled files: a changed source has no effect.
    (folder / "kvmprobe/__init__.py").write_text("raise SystemExit(99)\n")
    done = subprocess.run(
        python.command("-m", "kvmprobe", "--version"), cwd=folder, capture_output=True, text=True, check=True
    )
    assert __version__ in done.stdout


def test_a_userspace_without_python(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"has no Python of 3\.9 or later"):
        guest_program.python(tmp_path)


def test_the_command_is_quoted() -> None:
    archive = payload.archive([], ["echo", "a b", "$HOME", "it's"])
    assert b"""exec echo 'a b' '$HOME' 'it'"'"'s'\n""" in archive
