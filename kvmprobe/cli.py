"""Arguments, signals, exit status. What a command needs is imported when it runs."""

from __future__ import annotations

import os
import signal
import sys

from kvmprobe import TYPE_CHECKING
from kvmprobe.errors import EXIT_INCONCLUSIVE, EXIT_SOFTWARE, Interrupted, Problem

if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command. Returns the exit status; never raises."""
    try:
        for signum in _ENDING_SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup stays nohup
                signal.signal(signum, _end)
        from kvmprobe import commands

        return commands.run(sys.argv[1:] if arguments is None else arguments)
    except Interrupted as end:
        _say(f"ended by {signal.Signals(end.signum).name}, nothing is left behind")
        return 128 + end.signum
    except Problem as problem:
        _say(problem.message, problem.hint)
        return problem.exit_status
    except MemoryError:
        _say("out of memory")
        return EXIT_INCONCLUSIVE
    except Exception as error:  # a defect: promised to be a line and a status too
        if os.environ.get("KVMPROBE_DEBUG"):
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())
        _say(f"internal error: {text}", "This is a defect of kvmprobe. KVMPROBE_DEBUG=1 shows where; please report it.")
        return EXIT_SOFTWARE


def entry() -> NoReturn:
    """The process: runs one command and ends."""
    status = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # closed, or nobody reads it
    # Taking the interpreter apart object by object would add a tenth to a probe's time.
    os._exit(status)


def _end(signum: int, _: FrameType | None) -> None:
    # Once is enough: what follows is cleaning up, which a second Ctrl-C must not cut short.
    for other in _ENDING_SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(signum)


def _say(message: str, hint: str | None = None) -> None:
    try:
        print(f"kvmprobe: {message}", file=sys.stderr)
        if hint:
            print(f"  {hint}", file=sys.stderr)
    except (OSError, AttributeError):
        pass  # nobody listens on standard error
