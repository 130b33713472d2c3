"""Runs a Python program while strace is attached to one of the children that it forks, and to that child alone.

traced_child.py NUMBER LOG STRACE-ARGUMENT... -- (-m MODULE | SCRIPT) ARGUMENT...

The child number NUMBER (from 1) waits until strace traces it. So the calls are counted from there, and no call of
another process is one of them. For this host and for guests of the lab; needs root, like every strace of a process that
is no child.
"""

from __future__ import annotations

import os
import runpy
import sys
import time

_fork = os.fork
_ATTACH_DEADLINE_S = 60.0  # Generous: it only keeps a child from waiting for ever.
_SETTLE_S = 0.05  # strace is attached a moment before it sees the calls.


def _attach(log: str, arguments: list[str]) -> None:
    """In the child: have strace trace this process, which makes no call but waitid() meanwhile.

    strace is no child of it, which may wait for its own.
    """
    traced = os.getpid()
    between = _fork()
    if between == 0:
        os.setsid()
        if _fork() == 0:
            os.execvp("strace", ["strace", "-qqq", "-y", "-o", log, "-p", str(traced), *arguments])
        _wait_for_tracer(traced)
        os._exit(0)
    os.waitid(os.P_PID, between, os.WEXITED)


def _wait_for_tracer(traced: int) -> None:
    ends = time.monotonic() + _ATTACH_DEADLINE_S
    while time.monotonic() < ends:
        with open(f"/proc/{traced}/status", encoding="ascii", errors="replace") as status:
            if "TracerPid:\t0\n" not in status.read():
                break
        time.sleep(0.002)
    time.sleep(_SETTLE_S)


def main() -> None:
    """Replace os.fork(), and run the program."""
    number, log, at = int(sys.argv[1]), sys.argv[2], sys.argv.index("--")
    arguments, program = sys.argv[3:at], sys.argv[at + 1 :]
    forks = 0

    def fork() -> int:
        nonlocal forks
        forks += 1
        is_traced = forks == number
        pid = _fork()
        if pid == 0 and is_traced:
            _attach(log, arguments)
        return pid

    os.fork = fork
    sys.path[0] = os.getcwd()
    if program[0] == "-m":
        sys.argv = program[1:]
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = program
        runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    main()
