"""The unit files in scripts/systemd: systemd accepts them, and its score for the exposure of the unit is low."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT

UNITS = PROJECT / "scripts/systemd"
MAX_EXPOSURE = 2.5


@pytest.fixture
def analyze() -> Callable[..., str]:
    """Runs systemd-analyze and returns its output."""
    program = shutil.which("systemd-analyze")
    if program is None:
        reason = "systemd-analyze is not installed: apt-get install systemd"
        if os.environ.get("KVMPROBE_REQUIRE_KERNELS"):
            pytest.fail(reason)
        pytest.skip(reason)

    def run(*arguments: str | Path) -> str:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        return done.stdout + done.stderr

    return run


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with all unit files in the places that their comments name."""
    for name in ("kvmprobe.service", "kvmprobe.timer"):
        shutil.copy(UNITS / name, tmp_path)
    for name in ("libvirtd", "virtqemud", "kubelet"):
        (tmp_path / f"{name}.service").write_text("[Service]\nExecStart=/bin/sleep infinity\n")
        (tmp_path / f"{name}.service.d").mkdir()
        shutil.copy(UNITS / "gate.conf", tmp_path / f"{name}.service.d/kvmprobe.conf")
    (tmp_path / "kvmprobe.service.d").mkdir()
    shutil.copy(UNITS / "prometheus.conf", tmp_path / "kvmprobe.service.d/prometheus.conf")
    return tmp_path


def test_systemd_reports_no_problem(installed: Path, analyze: Callable[..., str]) -> None:
    units = sorted(path for path in installed.iterdir() if path.is_file())
    assert len(units) == 5
    assert analyze("verify", *units) == ""
    drop_in = installed / "libvirtd.service.d/kvmprobe.conf"
    drop_in.write_text(drop_in.read_text().replace("AssertPathExists", "AssertPathExist"))
    assert "AssertPathExist" in analyze("verify", *units)  # it reads the drop-ins


def test_the_exposure_of_the_unit_is_low(installed: Path, analyze: Callable[..., str]) -> None:
    assert _exposure(analyze, installed) <= MAX_EXPOSURE
    unit = installed / "kvmprobe.service"
    unit.write_text(re.sub(r"(?m)^(Capability|SystemCall|Protect|Private).*\n", "", unit.read_text()))
    assert _exposure(analyze, installed) > MAX_EXPOSURE


def _exposure(analyze: Callable[..., str], folder: Path) -> float:
    answer = analyze("security", "--offline=true", "--no-pager", folder / "kvmprobe.service")
    match = re.search(r"Overall exposure level for kvmprobe.service: ([0-9.]+)", answer)
    assert match, answer
    return float(match[1])
