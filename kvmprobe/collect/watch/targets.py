"""What is watched: a command that we start, kvmprobe's own guest, or a process that runs already."""

from __future__ import annotations

import errno
import json
import os

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.vm_probe import Probe
from kvmprobe.collect.watch.follower import Follower
from kvmprobe.model.errors import Problem, UsageProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvmprobe.collect.watch.blocked_signals import Signals
    from kvmprobe.collect.watch.follower import Witness
    from kvmprobe.host.sysroot import Sysroot
    from kvmprobe.model.evidence import OwnView

_YAMA = "/proc/sys/kernel/yama/ptrace_scope"
_YAMA_HINT = (
    "kernel.yama.ptrace_scope: 1 allows only one's own children, 2 only CAP_SYS_PTRACE, 3 nobody until the next boot."
)


class Command:
    """A command, started with our standard descriptors, signals as we were given them, and nothing else of ours."""

    own = False

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv: list[str] | None = list(argv)

    def follow(self, root: Sysroot, witness: Witness, signals: Signals) -> Follower:
        """Runs it to its end. Raises UsageProblem where it cannot be started."""
        argv = self.argv or []
        held = _Held(signals, lambda: os.execvp(argv[0], argv))  # noqa: S606
        follower = Follower(witness, signals, held.pid, started=True)
        held.seized_by(follower, False)  # kvmprobe's own calls on the way to the command are nobody's concern
        follower.run()
        error = held.error()
        if error:
            raise UsageProblem(f"{argv[0]} cannot be started: {error}", "Give a program, with its path if need be.")
        return follower

    def said(self) -> OwnView | None:
        return None


class OwnGuest:
    """kvmprobe's own VM and guest, in a child process."""

    own = True
    argv = None

    def follow(self, root: Sysroot, witness: Witness, signals: Signals) -> Follower:
        self._view = os.memfd_create("kvmprobe")
        held = _Held(signals, lambda: self._probe(root))
        follower = Follower(witness, signals, held.pid, started=True)
        held.seized_by(follower, True)
        follower.run()
        error = held.error()
        if error:
            raise Problem(f"kvmprobe's own guest failed: {error}")
        return follower

    def _probe(self, root: Sysroot) -> None:
        """The child."""
        probe = Probe(root)
        probe.run(False)
        view: OwnView = {"ioctls": probe.ioctls, "snapshots": probe.snapshots, "guest": probe.guest}
        with os.fdopen(self._view, "w", encoding="utf-8") as file:
            json.dump(view, file)

    def said(self) -> OwnView | None:
        """What the child found itself; None where it did not come to its end."""
        with os.fdopen(self._view, encoding="utf-8") as file:
            file.seek(0)
            text = file.read()
        view: OwnView | None = json.loads(text) if text else None
        return view


class Running:
    """A process that runs already."""

    own = False
    argv = None

    def __init__(self, pid: int, attached: Callable[[], None]) -> None:
        self.pid = pid
        self._attached = attached

    def follow(self, root: Sysroot, witness: Witness, signals: Signals) -> Follower:
        """Attaches to all its threads, until it ends or a signal tells us to let go. Raises Problem where refused."""
        self.pid = int(_status(root, self.pid, "Tgid") or self.pid)  # it may be given by one of its threads
        follower = Follower(witness, signals, self.pid, started=False)
        tids: set[int] = set()
        try:
            while new := {int(name) for name in root.listdir(f"/proc/{self.pid}/task")} - tids:
                for tid in new:
                    self._seize(root, follower, tid)
                tids |= new
        except BaseException:
            follower.detach()
            raise
        if not tids:
            raise UsageProblem(f"-p {self.pid}: there is no such process")
        follower.interrupt(tids, self._attached)
        follower.run()
        return follower

    def _seize(self, root: Sysroot, follower: Follower, tid: int) -> None:
        try:
            follower.seize(tid)
        except OSError as error:
            # Gone by now; or begotten by a thread that we have, and so ours already.
            going = (_status(root, tid, "State") or "X")[0] in "ZX"  # a thread that has ended is refused, too
            if not going and error.errno != errno.ESRCH and _status(root, tid, "TracerPid") != str(os.getpid()):
                raise _refusal(root, self.pid, error) from error

    def said(self) -> OwnView | None:
        return None


class _Held:
    """A child that waits until it is traced, and then acts."""

    def __init__(self, signals: Signals, act: Callable[[], object]) -> None:
        go, self._go = os.pipe()
        self._errors, error = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._go)
                signals.restore_in_child()
                if os.read(go, 1):
                    act()
            except BaseException as problem:
                os.write(error, str(getattr(problem, "strerror", None) or repr(problem)).encode())
            finally:
                os._exit(0)
        os.close(go)
        os.close(error)

    def seized_by(self, follower: Follower, watched: bool) -> None:
        """Lets `follower` trace it, from here on if `watched`, else from the program that it becomes."""
        try:
            follower.seize(self.pid, watched)
            if watched:
                follower.interrupt([self.pid], lambda: None)
            os.write(self._go, b"1")
        except OSError as error:
            os.close(self._go)  # so it ends
            os.waitpid(self.pid, 0)
            why = os.strerror(error.errno or 0)
            raise Problem(f"the kernel refuses to trace a child of ours: {why}", _YAMA_HINT) from error

    def error(self) -> str:
        """Why it could not act, else "". To be asked when it has ended or become another program."""
        with os.fdopen(self._errors, "rb") as file:
            return file.read().decode("utf-8", "replace")


def _refusal(root: Sysroot, pid: int, error: OSError) -> Problem:
    """Why the kernel does not let us attach: another tracer, yama, rights."""
    tracer_pid = _status(root, pid, "TracerPid")
    if tracer_pid not in (None, "0"):
        name = root.text_or_none(f"/proc/{tracer_pid}/comm")
        return Problem(f"-p {pid}: it is traced already, by {name or '?'}[{tracer_pid}]", "Only one tracer is allowed.")
    message = f"-p {pid}: the kernel refuses to attach: {os.strerror(error.errno or 0)}"
    scope = root.text_or_none(_YAMA)
    if scope not in (None, "0") and (os.geteuid() != 0 or scope == "3"):
        return Problem(f"{message} (kernel.yama.ptrace_scope is {scope})", _YAMA_HINT)
    owner = (_status(root, pid, "Uid") or "?").split()[0]
    return Problem(f"{message} (it runs as uid {owner}, kvmprobe as {os.geteuid()})", "Run as root (CAP_SYS_PTRACE).")


def _status(root: Sysroot, pid: int, name: str) -> str | None:
    """A field of /proc/PID/status."""
    text = root.text_or_none(f"/proc/{pid}/status") or ""
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for field, _, value in lines if field == name), None)
