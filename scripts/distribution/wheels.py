"""Wheels: the pinned ones of libraries and build tools, and kvmprobe's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from scripts.distribution import BuildError, zips
from scripts.distribution.zips import Files

_PINS = Path(__file__).with_name("requirements.txt")
# Everything that kvmprobe's wheel is built from. It is copied first: setuptools leaves files behind and uses old ones.
_SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "docs", "kvmprobe", "scripts")
_NO_SOURCES = ("__pycache__", ".*", "*~")
_TOOLS = ("setuptools", "shtab")
_SHOWN_LINES = 20  # of the output of a failed program
_BUILD = """
import sys
sys.path.insert(0, sys.argv[1])
from setuptools import build_meta
build_meta.build_wheel(sys.argv[2])
"""


def pinned(folder: Path) -> dict[str, Files]:
    """Downloads the wheels of requirements.txt to `folder`. Returns their files by project name. Raises BuildError."""
    options = ("--no-deps", "--require-hashes", "--only-binary=:all:", "--disable-pip-version-check", "--no-input")
    _run(sys.executable, "-m", "pip", "download", "-q", *options, "-r", _PINS, "-d", folder)
    return {path.name.split("-")[0]: zips.read(path) for path in folder.glob("*.whl")}


def own(project: Path, pinned: dict[str, Files], work: Path) -> tuple[str, Files]:
    """Builds kvmprobe's wheel in the folder `work`, with the tools among `pinned`.

    Returns its name and files. Raises BuildError.
    """
    tools, source, wheels = work / "tools", work / "source", work / "wheels"
    for tool in _TOOLS:
        for name, data in pinned[tool].items():
            path = tools / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    source.mkdir()
    for name in _SOURCES:
        if (project / name).is_dir():
            shutil.copytree(project / name, source / name, ignore=shutil.ignore_patterns(*_NO_SOURCES))
        elif (project / name).exists():
            shutil.copyfile(project / name, source / name)
    wheels.mkdir()
    _run(sys.executable, "-I", "-c", _BUILD, tools, wheels, cwd=source, HOME=str(work))  # no ~/.pydistutils.cfg
    (wheel,) = wheels.glob("*.whl")
    return wheel.name, zips.read(wheel)


def _run(*command: str | Path, cwd: Path | None = None, **environment: str) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=cwd,
        env={**os.environ, **environment},
        check=False,
    )
    if done.returncode != 0:
        name = "pip" if "pip" in command else "setuptools"
        output = "\n".join(done.stdout.splitlines()[-_SHOWN_LINES:])
        raise BuildError(f"{name} failed:\n{output}")
