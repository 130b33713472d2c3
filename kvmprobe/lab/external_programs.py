"""Finds and runs the programs that the lab needs on this machine. Failures are Problems with a hint."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from kvmprobe.model.errors import Problem

Say = Callable[[str], None]  # takes one line of progress

SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # modprobe and depmod are here; not in an ordinary user's PATH


def find(program: str, package: str) -> str:
    """Returns the path of `program`. Raises a Problem that names the Debian `package` to install."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *SBIN))
    found = shutil.which(program, path=path)
    if found is None:
        raise Problem(f"{program} is not installed", f"Install it: apt-get install {package}.")
    return found


def run(*argv: str | Path, stdin: bytes = b"", cwd: Path | None = None, hint: str | None = None) -> bytes:
    """Runs a program to its end and returns its stdout. An exception on the way kills the program.

    Raises a Problem with the last line of its output and `hint` if its exit status is not 0.
    """
    done = subprocess.run(  # noqa: S603  (no shell; every caller names the program)
        argv, input=stdin, capture_output=True, cwd=cwd, env={**os.environ, "LC_ALL": "C"}, check=False
    )
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
        reason = lines[-1] if lines else f"exit status {done.returncode}"
        raise Problem(f"{Path(argv[0]).name} failed: {reason}", hint)
    return done.stdout
