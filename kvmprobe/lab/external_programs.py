"""Finds and runs the programs that the lab needs on this machine. Failures are Problems with a hint."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from kvmprobe.lab import keeper
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


def run(
    *argv: str | Path,
    stdin: bytes = b"",
    cwd: Path | None = None,
    hint: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> bytes:
    """Runs a program to its end and returns its stdout. `variables` are added to its environment.

    An exception on the way, or the end of the lab, kills the program and all that it has started. Raises a Problem with
    the last line of its output and `hint` if its exit status is not 0.
    """
    process = subprocess.Popen(  # noqa: S603  (no shell; every caller names the program)
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C", **(variables or {})},
        start_new_session=True,  # Ctrl-C on the terminal is for the lab
    )
    with process, keeper.program(process.pid):
        stdout, stderr = process.communicate(stdin)
    if process.returncode != 0:
        lines = (stderr or stdout).decode("utf-8", "replace").strip().splitlines()
        reason = lines[-1] if lines else f"exit status {process.returncode}"
        raise Problem(f"{Path(argv[0]).name} failed: {reason}", hint)
    return stdout
