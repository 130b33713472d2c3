"""The process: signals, standard streams, exit status. What a command needs is imported when it runs."""

from __future__ import annotations

import gc
import os
import signal
import sys

from kvmprobe import TYPE_CHECKING
from kvmprobe.cli.process_limits import limit_reached
from kvmprobe.cli.report_arguments import agents_format, is_for_bisect
from kvmprobe.host.null_device import open_null
from kvmprobe.model.errors import EXIT_INCONCLUSIVE, EXIT_SOFTWARE, Interrupted, Problem
from kvmprobe.model.signals import ENDING_SIGNALS
from kvmprobe.report.messages import say

if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn


def entry() -> NoReturn:
    """Run one command as a process. Whatever fails, whenever a signal comes, it ends with the promised exit status."""
    gc.set_threshold(10_000)  # Python's own 700 makes the search for cycles of objects a part of every import's time.
    try:
        status = _main()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass  # closed, or nobody reads it
        # Deleting the interpreter's objects one by one would add a tenth to a probe's time.
        if is_for_bisect(sys.argv[1:]):
            from kvmprobe.model.bisect_status import bisect_status

            status = bisect_status(status)
        os._exit(status)
    except Interrupted as end:
        text = f"ended by {signal.Signals(end.signum).name}, nothing is left behind"
        os._exit(_complain(128 + end.signum, text))


def _main() -> int:
    try:
        _open_standard_descriptors()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # while ignored, the exit status of children is lost
        # What the caller ignores stays ignored (nohup).
        _end_on([signum for signum in ENDING_SIGNALS if signal.getsignal(signum) is not signal.SIG_IGN])
        from kvmprobe.cli import parser

        if not agents_format(sys.argv[1:]):
            return parser.run(sys.argv[1:])
        if not os.environ.get("KVMPROBE_DEBUG"):
            sys.stderr = None  # some agents take lines on standard error for the result
        return min(parser.run(sys.argv[1:]), EXIT_INCONCLUSIVE)  # agents know 0 to 3
    except Problem as problem:
        return _complain(problem.exit_status, problem.message, problem.hint)
    except Exception as error:
        if (limit := limit_reached(error)) is not None:
            return _complain(EXIT_INCONCLUSIVE, *limit)
        if isinstance(error, ModuleNotFoundError) and not (error.name or "kvmprobe").startswith("kvmprobe"):
            return _complain(EXIT_INCONCLUSIVE, *_incomplete_python(error))
        if os.environ.get("KVMPROBE_DEBUG"):
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())
        hint = "This is a defect of kvmprobe. Please report it; KVMPROBE_DEBUG=1 shows where it is."
        return _complain(EXIT_SOFTWARE, f"internal error: {text}", hint)


def _incomplete_python(error: ModuleNotFoundError) -> tuple[str, str]:
    """Return the message and hint for a missing module of the standard library. Other libraries are no condition."""
    what = f"{sys.executable} lacks the module {error.name} of Python's standard library"
    return what, "Install all of Python: apt-get install python3 (python3-minimal is not enough)."


def _complain(status: int, message: str, hint: str | None = None) -> int:
    """Report why there is no result, where its reader looks. Returns the exit status."""
    format = agents_format(sys.argv[1:])
    if format is None:
        say(f"kvmprobe: {message}", hint)
        return status
    text, status = format.complaint(message, hint)
    try:
        if sys.stdout is not None:
            print(text, end="", flush=True)
    except OSError:
        pass
    return status


def _open_standard_descriptors() -> None:
    """Open /dev/null as descriptors 0, 1 and 2 where the caller has closed them: no file of ours may become one."""
    while (fd := open_null()) <= 2:
        pass
    os.close(fd)


def _end_on(signals: list[signal.Signals]) -> None:
    """Have each of `signals` raise Interrupted, once: the cleaning up that follows must not be cut short."""

    def end(signum: int, _: FrameType | None) -> None:
        for other in signals:
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(signum)

    def raise_again(event: sys.UnraisableHookArgs) -> None:
        # Python discards an exception inside a __del__ or a callback, so this raises it again a moment later. Others,
        # from half-made objects of a library, are discarded.
        interrupted = event.exc_value
        if isinstance(interrupted, Interrupted):
            signal.signal(signal.SIGVTALRM, lambda *_: end(interrupted.signum, None))
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.001)

    sys.unraisablehook = raise_again
    for signum in signals:
        signal.signal(signum, end)
