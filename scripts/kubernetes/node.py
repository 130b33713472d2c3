"""kvmprobe on a Kubernetes node: what the containers of daemonset.yaml run. No shell, only Python and kvmprobe.pyz.

    node.py prepare   unpacks kvmprobe.pyz, loads msr and cpuid with the node's modprobe (the init container)
    node.py run       checks the node at once and then periodically, and writes the features; SIGTERM ends it at once
    node.py alive     exit status 0 while `run` writes the features (the kubelet's probes)

The environment variables KVMPROBE_PROGRAM and KVMPROBE_FEATURES name files; KVMPROBE_PERIOD is in seconds;
KVMPROBE_REQUIRE, where it is set, is what `kvmprobe check --require` asks.
"""

from __future__ import annotations

import ctypes
import lzma
import os
import shutil
import signal
import subprocess
import sys
import time

HOST = "/host"
PACKED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "kvmprobe.pyz.xz")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin"

SETTLED = (0, 4)  # confirmed or usable, not applicable
RETRY_S = 300.0  # after any other exit status: a repaired host soon gets its label back
DEADLINE_S = 600.0  # of one check, which takes a second, or a minute where KVM hangs
GRACE_S = 10.0
LOAD_S = 120.0

# The one capability to keep, for the msr devices. Kubernetes does not let a privileged container drop any.
CAP_SYS_RAWIO = 17
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 23, 24, 38  # linux/prctl.h
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h

# Blocked and waited for, never handled: so none arrives at a wrong moment, and PID 1 gets them too.
_ENDING = (signal.SIGTERM, signal.SIGINT)
_SIGNALS = (*_ENDING, signal.SIGCHLD)


def prepare() -> int:
    """The init container: unpacks the program, loads the modules. Returns the exit status."""
    with lzma.open(PACKED) as packed, open(_named("KVMPROBE_PROGRAM"), "wb") as program:
        shutil.copyfileobj(packed, program)
    _load_modules()
    return 0


def _load_modules() -> None:
    """Never fails: without the modules the check reports what is missing, and so do the node's labels."""
    try:
        os.chroot(HOST)
        os.chdir("/")
        command = ["modprobe", "-a", "msr", "cpuid"]
        status = subprocess.run(command, env={"PATH": PATH}, check=False, timeout=LOAD_S).returncode
        if status:
            _say(f"modprobe ended with {status}: msr and cpuid may be missing")
    except subprocess.TimeoutExpired:
        _say(f"modprobe did not end within {LOAD_S} s: msr and cpuid may be missing")
    except OSError as error:
        _say(f"cannot run modprobe in {HOST}: {error.strerror}: msr and cpuid may be missing")


def run() -> int:
    """The container: checks the node until a signal ends it. Returns the exit status."""
    period = _period()
    try:
        _drop_capabilities()
    except OSError as error:
        _say(f"cannot drop unneeded capabilities: {error.strerror}")
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    while True:
        status = _probe()
        if status is None or _interrupted_within(period if status in SETTLED else min(period, RETRY_S)):
            return 0


def _drop_capabilities() -> None:
    """Drops every capability except CAP_SYS_RAWIO, for this process and all children, for good. Raises OSError."""
    if os.geteuid() != 0:
        return  # it has none
    libc = ctypes.CDLL(None, use_errno=True)
    capability = 0
    while (present := libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0)) >= 0:  # EINVAL beyond the last
        if present and capability != CAP_SYS_RAWIO:
            _check(libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0))
        capability += 1
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    kept = 1 << CAP_SYS_RAWIO
    # Effective, permitted, inheritable; then the same for the capabilities from 32 on.
    _check(libc.capset(header, (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)))
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _check(answer: int) -> None:
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def alive() -> int:
    """The kubelet's probe: raises OSError or ValueError if the features are missing or too old. Returns 0."""
    features = _named("KVMPROBE_FEATURES")
    age = time.time() - os.stat(features).st_mtime
    limit = _period() + DEADLINE_S + 2 * GRACE_S
    if age > limit:
        raise ValueError(f"{features} was written {age:.0f} s ago, more than {limit:.0f}")
    return 0


def _probe() -> int | None:
    """Runs kvmprobe once: its exit status, -N if signal N killed it, or None if a signal to end arrived meanwhile.

    The verdict goes to the pod's log.
    """
    arguments = ("check", "-q", "--no-load", "--also", f"nfd:{_named('KVMPROBE_FEATURES')}")
    demands = os.environ.get("KVMPROBE_REQUIRE")
    required = ("--require", demands) if demands else ()
    command = [sys.executable, "-I", "-B", _named("KVMPROBE_PROGRAM"), *arguments, *required]
    pid = os.posix_spawn(command[0], command, {"LC_ALL": "C.UTF-8"}, setsigmask=())
    ended, status = _await(pid, DEADLINE_S, _SIGNALS)
    if status is None:
        if not ended:
            _say(f"kvmprobe did not end within {DEADLINE_S:.0f} s")
        os.kill(pid, signal.SIGTERM)
        _, status = _await(pid, GRACE_S, (signal.SIGCHLD,))
        if status is None:
            os.kill(pid, signal.SIGKILL)
            _, status = _await(pid, GRACE_S, (signal.SIGCHLD,))
    return None if ended else status if status is not None else -signal.SIGKILL


def _await(pid: int, seconds: float, signals: tuple[signal.Signals, ...]) -> tuple[bool, int | None]:
    """Waits for a signal to end, the end of the child `pid`, or the deadline, whichever is first.

    Returns whether a signal to end arrived, and the child's status if it has ended.
    """
    ends = time.monotonic() + seconds
    while True:
        status = _reap(pid)
        left = ends - time.monotonic()
        if status is not None or left <= 0:
            return False, status
        caught = signal.sigtimedwait(signals, left)
        if caught is not None and caught.si_signo in _ENDING:
            return True, _reap(pid)


def _reap(pid: int) -> int | None:
    """The status of the child `pid` if it has ended. Also reaps orphans, which become children of PID 1."""
    status = None
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == pid:
                status = os.waitstatus_to_exitcode(ended[1])
    except ChildProcessError:
        pass
    return status


def _interrupted_within(seconds: float) -> bool:
    return _await(0, seconds, _SIGNALS)[0]


def _period() -> float:
    text = os.environ.get("KVMPROBE_PERIOD", "")
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ValueError(f"KVMPROBE_PERIOD is {text!r}, not a number of seconds")
    return float(text)


def _named(variable: str) -> str:
    if not os.environ.get(variable):
        raise ValueError(f"{variable} does not name a file")
    return os.environ[variable]


def _say(line: str) -> None:
    print(f"node.py: {line}", file=sys.stderr, flush=True)


COMMANDS = {"prepare": prepare, "run": run, "alive": alive}


def main(arguments: list[str]) -> int:
    """Runs one of COMMANDS. Returns the exit status: 1 after an error, 64 for wrong arguments."""
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        _say(f"expected one of {', '.join(COMMANDS)}, not {' '.join(arguments) or 'nothing'}")
        return 64
    try:
        return COMMANDS[arguments[0]]()
    except (OSError, ValueError, lzma.LZMAError, EOFError) as error:
        _say(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
