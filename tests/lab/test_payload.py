"""What is put into a guest."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kvmprobe import __version__
from kvmprobe.lab import payload


def test_kvmprobe_runs_from_the_archive(tmp_path: Path) -> None:
    archive = payload.archive(["true"], payload.kvmprobe_command(["check", "--json"], sys.executable))
    if not shutil.which("cpio"):
        pytest.skip("cpio is not installed")
    subprocess.run(["cpio", "-i", "-d", "--quiet"], input=archive, check=True, cwd=tmp_path)
    folder = tmp_path / "lab"
    assert not (folder / "kvmprobe/lab").exists()
    assert (folder / "prepare").read_text() == "true\n"
    # Nothing but the compiled files is looked at: a source that changed does not matter.
    (folder / "kvmprobe/__init__.py").write_text("raise SystemExit(99)\n")
    done = subprocess.run(
        [sys.executable, "-B", "-m", "kvmprobe", "--version"],
        cwd=folder,
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert __version__ in done.stdout


def test_the_command_is_quoted() -> None:
    archive = payload.archive([], ["echo", "a b", "$HOME", "it's"])
    assert b"""exec echo 'a b' '$HOME' 'it'"'"'s'\n""" in archive
