"""Programs of the system: modprobe and rmmod. Found in a fixed PATH, run without a shell, never waited for without end.

subprocess is imported in the function: a check that runs no program does not need it.
"""

from __future__ import annotations

import os

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.null_device import open_null
from kvmprobe.host.sysroot import close_fd

if TYPE_CHECKING:
    from subprocess import Popen

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
DEADLINE_S = 120.0
# How long to wait after SIGKILL. A module whose init function hangs keeps modprobe in the kernel, where no signal ends
# it.
KILL_DEADLINE_S = 2.0


def prepare() -> None:
    """Import what run_program() needs. Before fork(), where a child runs programs: it may not be able to."""
    import subprocess  # noqa: F401


def run_program(name: str, *arguments: str) -> tuple[int | None, str]:
    """Run a program and return its exit status and its output (standard output and error in one).

    The status is negative where a signal ended the program: -9 for SIGKILL. It is None where the program could not be
    started or did not end within DEADLINE_S; the text states why.
    """
    path = next((path for path in (f"{folder}/{name}" for folder in PATH.split(":")) if os.path.exists(path)), None)
    if path is None:
        return None, f"there is no {name} in {PATH}"
    import subprocess

    null = -1
    try:
        null = open_null()
        process = subprocess.Popen(  # noqa: S603  (a fixed PATH, no shell)
            [path, *arguments],
            stdin=null,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": PATH, "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError) as error:
        return None, f"{path} cannot be run: {getattr(error, 'strerror', None) or error}"
    finally:
        close_fd(null)
    try:
        output = process.communicate(timeout=DEADLINE_S)[0]
    except subprocess.TimeoutExpired:
        ended = _kill(process)
        message = f"{name} did not end within {DEADLINE_S:.0f} s"
        return None, message if ended else f"{message}, and SIGKILL did not end it"
    except OSError as error:
        _kill(process)
        return None, f"the output of {path} cannot be read: {error.strerror}"
    except BaseException:  # A signal ends kvmprobe.
        _kill(process)
        raise
    return process.returncode, output.decode("utf-8", "replace").strip()


def _kill(process: Popen[bytes]) -> bool:
    """Kill the program; return False where it has not ended within KILL_DEADLINE_S."""
    from subprocess import TimeoutExpired

    try:
        process.kill()
        if process.stdout is not None:
            process.stdout.close()
        process.wait(KILL_DEADLINE_S)
    except (OSError, TimeoutExpired):
        return False
    return True
