"""What is watched: a command that kvmprobe starts, kvmprobe's own guest, or a process that runs already.

Each has `own` (whether it is kvmprobe's own guest), `argv` (the command, else None), `follow()` and `own_view()`.
"""

from __future__ import annotations

import errno
import json
import os

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.vm_probe import VmProbe
from kvmprobe.collect.watch.follower import Follower
from kvmprobe.collect.watch.waiting_child import YAMA_HINT, WaitingChild
from kvmprobe.host.processes import process_name, status_field
from kvmprobe.model.errors import Problem, UsageProblem
from kvmprobe.model.printable import process_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvmprobe.collect.watch.blocked_signals import BlockedSignals
    from kvmprobe.collect.watch.tracees import Observer
    from kvmprobe.host.sysroot import Sysroot
    from kvmprobe.model.command_evidence import OwnView

_YAMA = "/proc/sys/kernel/yama/ptrace_scope"


class Command:
    """A command. It gets kvmprobe's standard descriptors and the signals as kvmprobe was given them, nothing else."""

    own = False

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv: list[str] | None = list(argv)

    def follow(self, root: Sysroot, observer: Observer, signals: BlockedSignals) -> Follower:
        """Run the command to its end and return who followed it. Raises UsageProblem where it cannot be started."""
        argv = self.argv or []
        child = WaitingChild(signals, lambda: os.execvp(argv[0], argv))  # noqa: S606
        follower = Follower(root, observer, signals, child.pid, started=True)
        child.release(follower, watched=False)  # The calls of kvmprobe before the command are not of interest.
        follower.run()
        error = child.error()
        if error:
            raise UsageProblem(f"{argv[0]} cannot be started: {error}", "Give a program, with its path if needed.")
        return follower

    def own_view(self) -> OwnView | None:
        """Return None: a command makes no report of its own."""
        return None


class OwnGuest:
    """kvmprobe's own VM and guest, in a child process."""

    own = True
    argv = None

    def follow(self, root: Sysroot, observer: Observer, signals: BlockedSignals) -> Follower:
        """Run the guest to its end and return who followed it. Raises Problem where the child failed."""
        self._view = os.memfd_create("kvmprobe")
        child = WaitingChild(signals, lambda: self._run_probe(root))
        follower = Follower(root, observer, signals, child.pid, started=True)
        child.release(follower, watched=True)
        follower.run()
        error = child.error()
        if error:
            raise Problem(f"kvmprobe's own guest failed: {error}")
        return follower

    def _run_probe(self, root: Sysroot) -> None:
        """In the child."""
        probe = VmProbe(root)
        probe.run(False)
        view: OwnView = {"ioctls": probe.ioctls, "snapshots": probe.snapshots, "guest": probe.guest}
        with os.fdopen(self._view, "w", encoding="utf-8") as file:
            json.dump(view, file)

    def own_view(self) -> OwnView | None:
        """Return what the child itself recorded, None where it did not come to its end. Call it once."""
        with os.fdopen(self._view, encoding="utf-8") as file:
            file.seek(0)
            text = file.read()
        view: OwnView | None = json.loads(text) if text else None
        return view


class RunningProcess:
    """A process that runs already. `on_attached` is called when all its threads are traced."""

    own = False
    argv = None

    def __init__(self, pid: int, on_attached: Callable[[], None]) -> None:
        self.pid = pid
        self._on_attached = on_attached

    def follow(self, root: Sysroot, observer: Observer, signals: BlockedSignals) -> Follower:
        """Attach to all threads and follow them until the process ends or a signal asks kvmprobe to end.

        Returns who followed it. Raises UsageProblem where there is no such process, Problem where the kernel refuses.
        """
        self.pid = int(status_field(root, self.pid, "Tgid") or self.pid)  # The user may have given a thread.
        follower = Follower(root, observer, signals, self.pid, started=False)
        tids: set[int] = set()
        try:
            while new := {int(name) for name in root.list_folder(f"/proc/{self.pid}/task")} - tids:
                for tid in new:
                    self._seize(root, follower, tid)
                tids |= new
        except BaseException:
            follower.detach()
            raise
        if not tids:
            raise UsageProblem(f"-p {self.pid}: there is no such process")
        follower.interrupt(tids, self._on_attached)
        follower.run()
        return follower

    def _seize(self, root: Sysroot, follower: Follower, tid: int) -> None:
        try:
            follower.seize(tid)
        except OSError as error:
            # The thread has ended (a zombie is refused, too), or a traced thread has started it, so it is traced.
            has_ended = error.errno == errno.ESRCH or (status_field(root, tid, "State") or "X")[0] in "ZX"
            if not has_ended and status_field(root, tid, "TracerPid") != str(os.getpid()):
                raise _refusal(root, self.pid, error) from error

    def own_view(self) -> OwnView | None:
        """Return None: a process makes no report of its own."""
        return None


def _refusal(root: Sysroot, pid: int, error: OSError) -> Problem:
    """Why the kernel refuses to attach: another tracer, yama, or rights."""
    tracer_pid = status_field(root, pid, "TracerPid")
    if tracer_pid and tracer_pid != "0":
        name = process_name(root, int(tracer_pid))
        return Problem(f"-p {pid}: {process_text(name, tracer_pid)} traces it already", "Only one tracer is allowed.")
    message = f"-p {pid}: the kernel refuses to attach: {os.strerror(error.errno or 0)}"
    scope = root.read_text_or_none(_YAMA)
    if scope not in (None, "0") and (os.geteuid() != 0 or scope == "3"):
        return Problem(f"{message} (kernel.yama.ptrace_scope is {scope})", YAMA_HINT)
    owner = (status_field(root, pid, "Uid") or "?").split()[0]
    return Problem(f"{message} (it runs as uid {owner}, kvmprobe as {os.geteuid()})", "Run as root (CAP_SYS_PTRACE).")
