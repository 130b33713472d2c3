"""The command line. Ctrl-C in the moments before kvmprobe handles signals ends it without a traceback."""

# Nothing that is read from a file comes before the hook, not even __future__: Ctrl-C would show a traceback meanwhile.
import sys

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


def _show(kind: "type[BaseException]", error: BaseException, trace: "TracebackType | None") -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _show
