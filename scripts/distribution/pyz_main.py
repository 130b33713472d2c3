# ruff: noqa: E402, RUF005, UP031, UP036
# The __main__.py of kvmprobe.pyz. Every Python from 2.7 on can read it, to report that it is too old or incomplete.
import os
import sys

INCONCLUSIVE = 3  # the exit status: this Python cannot find it out
if sys.version_info < (3, 9):
    sys.stderr.write(
        "kvmprobe: Python 3.9 or later is needed, and %s is %d.%d\n" % ((sys.executable,) + sys.version_info[:2])
    )
    sys.exit(INCONCLUSIVE)
try:
    import ctypes  # noqa: F401
    import json  # noqa: F401
except ImportError:
    problem = sys.exc_info()[1]
    sys.stderr.write(
        "kvmprobe: the standard library of %s is incomplete (python3-minimal?): %s\n" % (sys.executable, problem)
        + "  On Debian and Ubuntu: apt-get install python3\n"
    )
    sys.exit(INCONCLUSIVE)

sys.dont_write_bytecode = True  # leave nothing on the host, not beside the standard library either
try:
    import fcntl

    # A soak or watch imports modules until its very end, days later. Until then an update may replace this file.
    fd = os.open(sys.path[0], os.O_RDONLY)
    pinned = "/proc/self/fd/%d" % fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    if os.path.exists(pinned):
        sys.path[0] = pinned
except OSError:
    pass
# Modules that `scripts/build --compile` compiled for this version of Python; without them it compiles the sources.
magic = int.from_bytes(sys.modules["_frozen_importlib_external"].MAGIC_NUMBER[:2], "little")
sys.path.insert(0, "%s/code/%d" % (sys.path[0], magic))

from kvmprobe.cli.main import entry

entry()
