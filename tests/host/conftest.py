"""Fixtures of the tests of host/."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmprobe.host import run_program
from tests.helpers.fake_modprobe import FakeModprobe


@pytest.fixture
def fake_modprobe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeModprobe:
    """A function that puts a program of the name modprobe where kvmprobe looks for it first."""

    def put(content: str, mode: int = 0o755) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "modprobe").write_text(content)
        (folder / "modprobe").chmod(mode)
        monkeypatch.setattr(run_program, "PATH", f"{folder}:/usr/bin:/bin")

    return put
