"""Arguments, signals, exit status. What a command needs is imported when it runs."""

from __future__ import annotations

import os
import signal
import sys

from kvmprobe import TYPE_CHECKING
from kvmprobe.cli.report_arguments import is_for_an_agent
from kvmprobe.model.errors import EXIT_INCONCLUSIVE, EXIT_SOFTWARE, Interrupted, Problem
from kvmprobe.model.signals import ENDING_SIGNALS
from kvmprobe.report.messages import say

if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn


def entry() -> NoReturn:
    """The process: runs one command and ends with its exit status, whatever happens and whenever a signal comes."""
    try:
        status = _main()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass  # closed, or nobody reads it
        # Taking the interpreter apart object by object would add a tenth to a probe's time.
        os._exit(status)
    except Interrupted as end:
        text = f"ended by {signal.Signals(end.signum).name}, nothing is left behind"
        os._exit(_complain(128 + end.signum, text))


def _main() -> int:
    try:
        _open_standard_descriptors()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored by a parent, it would keep children's answers from us
        _arm([signum for signum in ENDING_SIGNALS if signal.getsignal(signum) is not signal.SIG_IGN])  # nohup
        from kvmprobe.cli import parser

        if not is_for_an_agent(sys.argv[1:]):
            return parser.run(sys.argv[1:])
        if not os.environ.get("KVMPROBE_DEBUG"):
            sys.stderr = None  # some agents take what is said there for the result
        return min(parser.run(sys.argv[1:]), EXIT_INCONCLUSIVE)  # they know 0 to 3 only
    except Problem as problem:
        return _complain(problem.exit_status, problem.message, problem.hint)
    except MemoryError:
        return _complain(EXIT_INCONCLUSIVE, "out of memory")
    except Exception as error:  # a defect: promised to be a line and a status too
        if os.environ.get("KVMPROBE_DEBUG"):
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())
        hint = "This is a defect of kvmprobe. KVMPROBE_DEBUG=1 shows where; please report it."
        return _complain(EXIT_SOFTWARE, f"internal error: {text}", hint)


def _complain(status: int, message: str, hint: str | None = None) -> int:
    """Says why there is no result, where it is looked for. Returns what the process ends with."""
    if not is_for_an_agent(sys.argv[1:]):
        say(f"kvmprobe: {message}", hint)
        return status
    from kvmprobe.formats import nagios

    try:
        if sys.stdout is not None:
            print(nagios.complaint(message, hint), end="", flush=True)
    except OSError:
        pass
    return nagios.EXIT_UNKNOWN


def _open_standard_descriptors() -> None:
    """A pipe or device of ours must not become descriptor 0, 1 or 2 where the caller has closed these."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)


def _arm(signals: list[signal.Signals]) -> None:
    """Makes each of `signals` end the program, once: what follows is cleaning up, which must not be cut short."""

    def end(signum: int, _: FrameType | None) -> None:
        for other in signals:
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(signum)

    def again(event: sys.UnraisableHookArgs) -> None:
        # Python discards what is raised inside a __del__ or a callback, so it is raised again a moment later. Other
        # complaints about half-made objects of a library are nobody's concern.
        interrupted = event.exc_value
        if isinstance(interrupted, Interrupted):
            signal.signal(signal.SIGVTALRM, lambda *_: end(interrupted.signum, None))
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.001)

    sys.unraisablehook = again
    for signum in signals:
        signal.signal(signum, end)
