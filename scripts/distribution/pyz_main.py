# ruff: noqa: E402, RUF005, UP031, UP036
# The __main__.py of kvmprobe.pyz. Pythons that are not enough can read it, too: they say so and nothing worse.
import os
import sys

if sys.version_info < (3, 9):
    sys.stderr.write(
        "kvmprobe: Python 3.9 or later is needed, and %s is %d.%d\n" % ((sys.executable,) + sys.version_info[:2])
    )
    sys.exit(3)
try:
    import ctypes  # noqa: F401
    import json  # noqa: F401
except ImportError:
    problem = sys.exc_info()[1]
    sys.stderr.write("kvmprobe: %s is only a part of Python (python3-minimal?): %s\n" % (sys.executable, problem))
    sys.exit(3)

sys.dont_write_bytecode = True  # nothing is left on a host, not beside the standard library either
try:
    import fcntl

    # A soak or watch imports to its very end, days later; meanwhile an update may put another file in this one's place.
    fd = os.open(sys.path[0], os.O_RDONLY)
    pinned = "/proc/self/fd/%d" % fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    if os.path.exists(pinned):
        sys.path[0] = pinned
except OSError:
    pass

from kvmprobe.cli.main import entry

entry()
