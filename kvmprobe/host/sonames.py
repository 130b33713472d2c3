"""The C libraries of pyudev and python-ptrace, found without running a program.

ctypes.util.find_library() runs ldconfig and, where that finds nothing, the gcc and ld of PATH. As root that is a risk.
Both packages call it while they are imported.
"""

from __future__ import annotations

import ctypes.util

# By the name that find_library() is asked for: the name that a program is linked with. The others get None, which
# makes ctypes use the symbols of the program itself, among them those of the C library.
_SONAMES = {"udev": "libudev.so.1"}


class FixedSonames:
    """From entry to exit, ctypes.util.find_library() returns the fixed name of a library, or None, without a search."""

    def __enter__(self) -> None:
        self._find_library = ctypes.util.find_library
        ctypes.util.find_library = lambda name: _SONAMES.get(name)

    def __exit__(self, *_: object) -> None:
        ctypes.util.find_library = self._find_library
