"""The wheels of the libraries, as they are pinned, and kvmprobe's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from builds import Failed, zips
from builds.zips import Files

_PINS = Path(__file__).with_name("requirements.txt")
# All that kvmprobe's wheel is made of. A copy is built, for setuptools leaves files behind and takes up old ones.
_SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "kvmprobe", "scripts")
_NO_SOURCES = ("__pycache__", ".*", "*~")
_LINES = 20  # of what a program said that failed
_BUILD = """
import sys
sys.path.insert(0, sys.argv[1])
from setuptools import build_meta
build_meta.build_wheel(sys.argv[2])
"""


def pinned(folder: Path) -> dict[str, Files]:
    """The files of the wheels in requirements.txt, downloaded to `folder`, by the library's name."""
    options = ("--no-deps", "--require-hashes", "--only-binary=:all:", "--disable-pip-version-check", "--no-input")
    _run(sys.executable, "-m", "pip", "download", "-q", *options, "-r", _PINS, "-d", folder)
    return {path.name.split("-")[0]: zips.read(path) for path in folder.glob("*.whl")}


def own(project: Path, setuptools: Files, work: Path) -> tuple[str, Files]:
    """The name and the files of kvmprobe's wheel, built in the folder `work` with `setuptools`."""
    tool, source, wheels = work / "tool", work / "source", work / "wheels"
    for name, data in setuptools.items():
        path = tool / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    source.mkdir()
    for name in _SOURCES:
        if (project / name).is_dir():
            shutil.copytree(project / name, source / name, ignore=shutil.ignore_patterns(*_NO_SOURCES))
        elif (project / name).exists():
            shutil.copyfile(project / name, source / name)
    wheels.mkdir()
    _run(sys.executable, "-I", "-c", _BUILD, tool, wheels, cwd=source, HOME=str(work))  # no ~/.pydistutils.cfg
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
        said = "\n".join(done.stdout.splitlines()[-_LINES:])
        raise Failed(f"{name} failed:\n{said}")
