"""Other programs: finding them and running them, failures as Problems."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from kvmprobe.model.errors import Problem

Say = Callable[[str], None]  # takes one line about the progress

_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # where modprobe and depmod are; not in an ordinary user's PATH


def find(program: str, package: str) -> str:
    """The path of `program`. Raises a Problem that names the Debian `package` to install."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SBIN))
    found = shutil.which(program, path=path)
    if found is None:
        raise Problem(f"{program} is not installed", f"Install it: apt-get install {package}.")
    return found


def run(*argv: str | Path, stdin: bytes = b"", cwd: Path | None = None, hint: str | None = None) -> bytes:
    """Runs a program to its end (it is killed when an exception comes) and returns its stdout.

    Raises a Problem with the last thing it said and `hint` when it fails.
    """
    done = subprocess.run(  # noqa: S603  (no shell; every caller names the program)
        argv, input=stdin, capture_output=True, cwd=cwd, env={**os.environ, "LC_ALL": "C"}, check=False
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
        reason = said[-1] if said else f"exit status {done.returncode}"
        raise Problem(f"{Path(argv[0]).name} failed: {reason}", hint)
    return done.stdout
